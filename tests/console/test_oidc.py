"""Users by OpenID Connect in a real browser, with a real small provider (oidc-provider-mock)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
from oidc_provider_mock import User, run_server_in_thread
from playwright.sync_api import Browser, Page, expect

from tests.console.conftest import DESKTOP, PHONE, WAIT_MS
from tests.console.test_look import flaws
from tests.node.serving import NODE, Node, node
from tests.ports import free_port

OIDC = """
[admin.oidc]
issuer = "http://localhost:{provider}"
client_id = "console"
client_secret_file = "oidc.secret"
url = "http://127.0.0.1:{api}"
label = "Example ID"
[admin.oidc.roles]
"dns-operators" = "operator"
"dns-partners" = [{{ actions = ["read"], kinds = ["client"], clients = ["acme"] }}]
"""

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
"""Those of the provider's own libraries."""

USERS = [
    User(sub="olga", claims={"preferred_username": "Olga", "groups": ["staff", "dns-operators"]}),
    User(sub="paul", claims={"preferred_username": "Paul", "groups": ["dns-partners"]}),
    User(sub="nina", claims={"preferred_username": "Nina", "groups": ["staff"]}),
]


@pytest.fixture(scope="module")
def with_users(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node whose users sign in at the provider."""
    folder = tmp_path_factory.mktemp("oidc")
    with run_server_in_thread(port=free_port(), user_claims=USERS, require_nonce=True) as server, node(folder) as made:
        (folder / "oidc.secret").touch(mode=0o600)
        (folder / "oidc.secret").write_text("very secret\n")
        made.write_node(NODE + OIDC.replace("{provider}", str(server.server_port)))
        made.apply()
        made.start("--token-file", "token")
        yield made


@pytest.fixture
def page(with_users: Node, browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport=DESKTOP, color_scheme="light")
    context.set_default_timeout(WAIT_MS)
    yield context.new_page()
    context.close()


def signed_in(page: Page, at: Node, user: str, place: str = "") -> None:
    """From the sign-in page to the provider, where the user chooses an account, and back."""
    page.goto(f"http://127.0.0.1:{at.api}/console/#/{place}")
    page.click("#users")
    page.wait_for_url(re.compile("localhost"))
    page.get_by_role("button", name=user).first.click()
    page.wait_for_url(re.compile(r"127\.0\.0\.1"))


def test_from_the_sign_in_to_a_change(page: Page, with_users: Node, keep: Callable[..., None]) -> None:
    """A user comes to the page that was wanted, changes what the role allows, is named by the audit, and is signed out
    here and there; a reload stays inside, and no script and no address has anything of it."""
    page.goto(f"http://127.0.0.1:{with_users.api}/console/")
    expect(page.locator("#users")).to_have_text("Sign in with Example ID")
    keep(page, "sign-in-users")
    assert flaws(page) == []
    signed_in(page, with_users, "olga", "clients/acme")
    expect(page.locator("h1")).to_have_text("acme")
    expect(page.locator("#foot")).to_contain_text("user Olga (olga)")
    kept = page.evaluate("[document.cookie, JSON.stringify(localStorage), JSON.stringify(sessionStorage)].join()")
    assert not re.search("code|state|eyJ", kept)
    assert (cookie := page.context.cookies("http://127.0.0.1/")[0])["httpOnly"]
    assert cookie["sameSite"] == "Strict"
    page.reload()
    page.get_by_label("Tier").select_option("standard")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("acme changed")).to_be_visible()
    _, audit = with_users.curl("GET", "audit?limit=1")
    assert audit["items"][0]["actor"] == "user Olga (olga)"
    page.click("#sign-out")
    page.wait_for_url(re.compile("localhost"))
    page.goto(f"http://127.0.0.1:{with_users.api}/console/#/clients")
    expect(page.locator("#users")).to_be_visible()


def test_a_narrowed_role(page: Page, with_users: Node) -> None:
    """A user sees what the scopes of the role reach."""
    signed_in(page, with_users, "paul", "clients")
    expect(page.locator("tbody tr")).to_have_count(1)
    expect(page.locator("tbody")).to_contain_text("acme")
    expect(page.locator(".side nav a")).to_have_text(["Overview", "Clients", "Usage"])


def test_who_has_no_role(page: Page, with_users: Node, keep: Callable[..., None]) -> None:
    """Known to the provider is not known here: the sign-in page says what to do, and a token still works."""
    signed_in(page, with_users, "nina")
    expect(page.locator("#token-error")).to_contain_text("none of your roles gives rights here")
    assert "why=" not in page.url
    keep(page, "sign-in-no-role")
    page.fill("#token", with_users.token)
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text("Overview")


def test_who_cancels(page: Page, with_users: Node, keep: Callable[..., None]) -> None:
    """The sign-in page is back, and says so; on a phone and in the dark it is as well to read."""
    page.set_viewport_size(PHONE)
    page.emulate_media(color_scheme="dark")
    signed_in(page, with_users, "Deny")
    expect(page.locator("#token-error")).to_have_text(re.compile("cancelled|did not answer as it should|begun here"))
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    keep(page, "sign-in-users-phone-dark")


def test_after_a_restart(page: Page, with_users: Node) -> None:
    """A user's session survives a restart of the node, as a token's does."""
    signed_in(page, with_users, "olga", "clients")
    expect(page.locator("h1")).to_have_text("Clients")
    with_users.stop()
    with_users.start()
    page.reload()
    expect(page.locator("#foot")).to_contain_text("user Olga (olga)")
