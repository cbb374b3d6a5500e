"""Judges the alerts of deploy/prometheus by what real processes expose: scrapes in, whether each fires out.

A story is a list of stages, such as "well", "broken", "mended". Each stage is two scrapes of the same process some time
apart; in the story it lasts a quarter of an hour, in which gauges stay as they were and counters go on at the rate
that was measured between the two. promtool evaluates the rules over all of it.
"""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

RULES = Path(__file__).parents[1] / "deploy" / "prometheus" / "dnsvip.rules.yml"
MINUTES = 16
"""The length of a stage: longer than any alert's `for` and window."""

_SAMPLE = re.compile(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$", re.MULTILINE)
_USED = set(re.findall(r"\bdnsvip_\w+", RULES.read_text()))

Samples = dict[tuple[str, str], float]


@dataclass(frozen=True)
class Scrape:
    """What a process exposes at a moment; None where it cannot be scraped."""

    text: str | None
    at: float

    @property
    def samples(self) -> Samples:
        """Of the metrics that the rules use."""
        return {
            (name, labels): float(value) for name, labels, value in _SAMPLE.findall(self.text or "") if name in _USED
        }


def scraped(text: str | None) -> Scrape:
    """A scrape of now."""
    return Scrape(text, time.time())


Stage = tuple[Scrape, Scrape]


def fires(
    stages: Sequence[Stage], alert: str, expected: Sequence[bool], labels: str = "", job: str = "dnsvip-serve"
) -> None:
    """Assert of each stage whether an alert fires at its end; `labels` are matchers that choose one of its series."""
    assert len(stages) == len(expected)
    matchers = ",".join(filter(None, (f'alertname="{alert}"', 'alertstate="firing"', labels)))
    story = {
        "rule_files": [str(RULES)],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": name, "values": values} for name, values in _series(stages, job).items()],
                "promql_expr_test": [
                    {
                        "expr": f"min(ALERTS{{{matchers}}})",
                        "eval_time": f"{(number + 1) * MINUTES - 1}m",
                        "exp_samples": [{"labels": "{}", "value": 1}] if firing else [],
                    }
                    for number, firing in enumerate(expected)
                ],
            }
        ],
    }
    problems = promtool(story)
    assert not problems, problems


def promtool(story: Mapping[str, Any]) -> str:
    """What `promtool test rules` finds wrong with a story."""
    process = subprocess.run(
        ["promtool", "test", "rules", "/dev/stdin"],
        input=yaml.safe_dump(dict(story)),
        capture_output=True,
        text=True,
        check=False,
    )
    return "" if process.returncode == 0 else process.stdout + process.stderr


def _series(stages: Sequence[Stage], job: str) -> dict[str, str]:
    """Every series of the story in promtool's notation."""
    each = [(first.samples, last.samples, last.at - first.at) for first, last in stages]
    keys = sorted({key for first, last, _ in each for key in (*first, *last)})
    series = {_name(*key, job): _values(key, stages, each) for key in keys}
    up = " ".join(f"{int(last.text is not None)}x{MINUTES - 1}" for _, last in stages)
    return {f'up{{job="{job}",instance="a"}}': up, **series}


def _values(key: tuple[str, str], stages: Sequence[Stage], each: list[tuple[Samples, Samples, float]]) -> str:
    """The values of one series; where a stage has none it ends, as Prometheus marks it."""
    parts, total, known = [], 0.0, False
    for number, ((_, scrape), (first, last, seconds)) in enumerate(zip(stages, each, strict=True)):
        if key not in last:
            parts.append(f"stale _x{MINUTES - 1}" if known else f"_x{MINUTES}")
        elif key[0].endswith(("_total", "_bucket", "_count")):
            gain = 60 * (last[key] - first.get(key, 0.0)) / seconds
            parts.append(f"{total:.3f}+{gain:.3f}x{MINUTES - 1}")
            total += gain * MINUTES
        elif key[0].endswith("_timestamp_seconds"):
            parts.append(f"{last[key] - scrape.at + 60 * MINUTES * number:.3f}x{MINUTES - 1}")
        else:
            parts.append(f"{last[key]:g}x{MINUTES - 1}")
        known = key in last
    return " ".join(parts)


def _name(name: str, labels: str, job: str) -> str:
    return name + "{" + ",".join(filter(None, (labels, f'job="{job}"', 'instance="a"'))) + "}"
