"""What people do with the page, in Chromium: by mouse, by keyboard, on a telephone, in the dark."""

import csv
import json
import os
import sys
import tempfile
import urllib.request
from pathlib import Path

from playwright.sync_api import expect, sync_playwright

URL, ADMIN, TENANT, HOSTILE, CHROMIUM, FOLDER = sys.argv[1:]
PICTURES = os.environ.get("RGPU_SCREENSHOTS")
ARGUMENTS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]


def picture(page, name):
    if PICTURES:
        Path(PICTURES).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=f"{PICTURES}/{name}.png", full_page=True)


def ask(path, token=ADMIN):
    request = urllib.request.Request(URL.replace("/usage", "/v1/usage") + path, headers={"Authorization": f"Bearer {token}"})
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request) as answer:
        return json.load(answer)


def settled(page):
    """What was asked for is shown."""
    expect(page.locator("body:not([aria-busy]) #chart svg")).to_have_count(1)


def enter(page, token):
    page.fill("#token", token)
    page.press("#token", "Enter")
    settled(page)


def column(page, place):
    return page.locator(f"#table tbody td:nth-child({place})").all_text_contents()


def legend(page):
    return page.locator("#legend li").all_text_contents()


def without_a_token(page):
    answer = page.goto(URL)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe-inline" not in policy, policy
    expect(page.locator("#message")).to_contain_text("a token is needed")
    expect(page.locator("#token")).to_be_focused()
    page.fill("#token", "wrong")
    page.press("#token", "Enter")
    expect(page.locator("#message")).to_contain_text("a token is needed")
    picture(page, "no-token")


def as_administrator(page):
    enter(page, ADMIN)
    expect(page.locator("#message")).to_be_hidden()
    # The session without a tenant is there too, by no name.
    assert legend(page)[:2] == ["bob", "alice"], legend(page)
    assert column(page, 1)[:2] == ["bob", "alice"], column(page, 1)
    assert page.locator("#chart rect.bar").count() > 40
    expect(page.locator("#idle")).to_contain_text("worker-7")
    expect(page.locator("#alerts")).to_contain_text("more than 10")
    picture(page, "day-tenants")


def windows(page):
    for label, columns in [("1 hour", 12), ("6 hours", 72), ("Day", 48), ("Week", 56)]:
        page.get_by_text(label, exact=True).click()
        settled(page)
        # The last column is the present one.
        page.focus("#chart")
        page.keyboard.press("Home")
        first = page.inner_text("#said")
        seen = {first}
        for _ in range(2 * columns):
            page.keyboard.press("ArrowRight")
            seen.add(page.inner_text("#said"))
        assert columns <= len(seen) <= columns + 1, (label, len(seen))
        picture(page, f"window-{label.replace(' ', '-').lower()}")


def own_range(page):
    page.get_by_text("Own range").click()
    page.fill("#from", "2001-01-01T00:00")
    page.fill("#to", "2001-01-02T00:00")
    page.press("#to", "Enter")
    settled(page)
    expect(page.locator("#table")).to_contain_text("Nobody has used anything")
    expect(page.locator("#chart")).to_contain_text("nothing in this time")
    page.fill("#to", "2000-01-02T00:00")
    page.press("#to", "Enter")
    expect(page.locator("#message")).to_contain_text("give a start and a later end")
    # Where one was is in the address.
    assert "last=own" in page.url, page.url
    page.get_by_text("Day", exact=True).click()
    settled(page)


def functions_and_costs(page):
    page.select_option("#by", "function")
    page.select_option("#measure", "cost")
    settled(page)
    names = legend(page)
    # The eighth is what the others have in sum.
    assert len(names) == 8 and names[0] == "train" and names[-1] == "others", names
    # A client's words are words.
    assert HOSTILE in column(page, 1), column(page, 1)
    assert page.locator("#table img").count() == 0
    shown = page.locator("#table tfoot td:nth-child(2)").inner_text()
    cost = float(shown.removesuffix(" EUR"))
    # The page's day begins with a whole column.
    step = 1800
    start = int(page.evaluate("Math.floor(Date.now() / 1000)") - 86400) // step * step
    rows = ask(f"?from={start}&group_by=function")["rows"]
    truth = sum(row["cost"] for row in rows)
    assert abs(cost - truth) < 0.02 * truth, (cost, truth)
    picture(page, "functions-cost")


def download(page):
    with page.expect_download() as waiting:
        page.click("#csv")
    file = Path(FOLDER) / "usage.csv"
    waiting.value.save_as(file)
    with open(file, newline="") as text:
        rows = list(csv.DictReader(text))
    assert waiting.value.suggested_filename.startswith("usage-function-"), waiting.value.suggested_filename
    assert {row["function"] for row in rows} >= {"train", "classify", HOSTILE}, rows[:3]
    assert sum(float(row["cost"]) for row in rows) > 1


def colours(page):
    back = lambda: page.evaluate("getComputedStyle(document.body).backgroundColor")
    light = back()
    page.click("#theme")
    assert back() != light
    settled(page)
    picture(page, "dark")
    page.reload()
    settled(page)
    assert back() != light, "the choice is remembered"
    # And the token is, for as long as the window is there.
    expect(page.locator("#message")).to_be_hidden()
    page.click("#theme")
    assert back() == light


def keyboard(page):
    """Everything is reached by Tab, and shows where one is."""
    page.evaluate("document.activeElement.blur()")
    reached = []
    for _ in range(30):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.name || document.activeElement.tagName"))
    for wanted in ["token", "theme", "last", "by", "measure", "refresh", "csv", "chart"]:
        assert wanted in reached, (wanted, reached)
    page.focus("#last input:checked")
    page.keyboard.press("ArrowRight")
    settled(page)
    assert "last=7d" in page.url, page.url
    page.keyboard.press("ArrowLeft")
    settled(page)


def on_a_telephone(context):
    page = context.new_page()
    page.set_viewport_size({"width": 360, "height": 740})
    page.goto(URL)
    expect(page.locator("#message")).to_contain_text("a token is needed")
    enter(page, TENANT)
    wide = page.evaluate("document.scrollingElement.scrollWidth")
    assert wide <= 360, f"the page is {wide} pixels wide"
    # A tenant sees its own and nothing else.
    assert legend(page) == ["alice"], legend(page)
    assert "bob" not in page.inner_text("main")
    picture(page, "telephone")
    page.close()


def main():
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as profile:
        context = playwright.chromium.launch_persistent_context(
            profile, executable_path=CHROMIUM, args=ARGUMENTS, viewport={"width": 1200, "height": 900}, accept_downloads=True,
            color_scheme="light",
        )
        context.set_default_timeout(60_000)
        expect.set_options(timeout=60_000)
        wrong = []
        page = context.pages[0]

        def watch(page):
            page.on("pageerror", lambda error: wrong.append(str(error)))
            # A refused request is said there as well, and is meant.
            page.on("console", lambda said: said.type == "error" and "status of 40" not in said.text and wrong.append(said.text))
            page.on("dialog", lambda dialog: (wrong.append("a client's words have run"), dialog.dismiss()))
            page.on("request", lambda request: request.url.startswith((URL.removesuffix("/usage"), "data:", "blob:")) or wrong.append(request.url))

        watch(page)
        context.on("page", watch)
        parts = [without_a_token, as_administrator, windows, own_range, functions_and_costs, download, colours, keyboard]
        for part in parts:
            part(page)
            print(f"{part.__name__}: as it should be")
        on_a_telephone(context)
        print("on_a_telephone: as it should be")
        context.close()
        assert not wrong, wrong


main()
