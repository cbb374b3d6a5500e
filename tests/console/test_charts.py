"""Charts: axes that stay where they are, and a colour for each meaning."""

from __future__ import annotations

from tests.console.conftest import Open

AXES = """async () => {
    const { chart } = await import("/console/js/draw/chart.js");
    const made = chart("Test");
    document.body.append(made.element);
    const ticks = (most, times) => {
        made.draw({ times, series: [{ name: "gold", values: times.map(() => most) }] });
        return [...made.element.querySelectorAll(".tick")].map((tick) => tick.textContent);
    };
    const times = [1000, 1002, 1004];
    const empty = (made.draw({ times: [], series: [] }), made.element.outerHTML.includes("NaN"));
    return [empty, ticks(90, times), ticks(40, times), ticks(20, [...times, 1006]), ticks(101, times)];
}"""
COLOURS = """async names => {
    const { colourOf } = await import("/console/js/draw/colours.js");
    return names.map(colourOf);
}"""


def test_axes_do_not_jump(visit: Open) -> None:
    """Time always covers ten minutes; the top stays while the values need a third of it, and rises at once."""
    broken, first, lower, low, higher = visit(signed_in=False).evaluate(AXES)
    assert not broken
    assert first == ["0", "50", "100", "10 min ago", "5 min ago", "now"]
    assert lower == first
    assert low[:3] == ["0", "10", "20"]
    assert higher[:3] == ["0", "100", "200"]
    assert low[3:] == higher[3:] == first[3:]


def test_a_colour_for_each_meaning(visit: Open) -> None:
    """Errors are red, nobody is grey, names of the site have neither; all have the same colour after a reload."""
    names = ["gold", "standard", "NOERROR", "SERVFAIL", "anonymous", "others", "silver"]
    page = visit(signed_in=False)
    colours = page.evaluate(COLOURS, names)
    page.reload()
    assert page.evaluate(COLOURS, names) == colours
    assert colours[2:6] == [2, 5, 8, 8]
    own = [*colours[:2], colours[6]]
    assert len(set(own)) == 3
    assert not {5, 8} & set(own)
