"""What people do with the page, in Chromium: by mouse, by keyboard, on a telephone, in the dark; and what nobody should be able to do."""

import base64
import http.server
import json
import os
import re
import struct
import sys
import tempfile
import threading
import urllib.error
import urllib.parse
import urllib.request
import zlib
from pathlib import Path

from playwright.sync_api import expect, sync_playwright

URL, OPEN, CHROMIUM, FOLDER = sys.argv[1:]
ROOT = URL.rstrip("/")
PICTURES = os.environ.get("RGPU_SCREENSHOTS")
ARGUMENTS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]
# Words as somebody hostile would choose them.
HOSTILE = "<img src=x onerror=alert(1)>"

def square():
    """A PNG of 64 × 64 points, in base64."""
    part = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    rows = b"".join(b"\0" + bytes(v for x in range(64) for v in (4 * x, 4 * y, 160)) for y in range(64))
    head = struct.pack(">IIBBBBB", 64, 64, 8, 2, 0, 0, 0)
    return base64.b64encode(b"\x89PNG\r\n\x1a\n" + part(b"IHDR", head) + part(b"IDAT", zlib.compress(rows)) + part(b"IEND", b"")).decode()


# Draws a picture, tells numbers and its phases, and prints what it has got.
PAINTER = r"""name: painter
script: |
  #!/bin/sh
  echo "got $(wc -c < "$INPUT_FILE_PATH") bytes"
  printf '@PNG@' | base64 -d > "$TMP_OUTPUT_DIR/picture.png"
  printf '{"views":{"A4C":0.91,"PLAX":0.09},"frames":12}' > "$TMP_OUTPUT_DIR/views.json"
  cp "$INPUT_FILE_PATH" "$TMP_OUTPUT_DIR/copy.bin"
  printf '{"seconds":{"load_model":0.01,"processing":0.02}}' > "$TMP_OUTPUT_DIR/.phases.json"
annotations:
  rgpu.io/sample: "data:,a%20sample"
  rgpu.io/sample-name: sample.txt
""".replace("@PNG@", square())


def picture(page, name):
    if PICTURES:
        Path(PICTURES).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=f"{PICTURES}/{name}.png", full_page=True)


def ask(who, method, path, body=None, root=ROOT, **headers):
    """As a program would: status, headers, body."""
    if who:
        pair = base64.b64encode(f"{who}:secret-of-{who}".encode()).decode()
        headers["Authorization"] = f"Basic {pair}"
    data = body.encode() if isinstance(body, str) else body
    request = urllib.request.Request(root + path, data=data, headers=headers, method=method)
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as answer:
        return answer.code, answer.headers, answer.read()


def define(who, text):
    status, _, body = ask(who, "PUT", "/system/services", text)
    assert status == 201, body


def at(page, place):
    """Another part of the page."""
    page.evaluate("""place => new Promise((resolve) => {
        const before = location.href;
        // The page listens too, and was first.
        addEventListener("hashchange", () => setTimeout(resolve), { once: true });
        location.hash = place;
        if (location.href === before) resolve();
    })""", place)
    settled(page)


def settled(page):
    expect(page.locator("main:not([aria-busy]) h2").first).to_be_visible()


def log_in(page, name, password=None):
    page.goto(URL)
    page.fill("#name", name)
    page.fill("#password", password or f"secret-of-{name}")
    page.press("#password", "Enter")
    expect(page.locator("#out")).to_be_visible()
    settled(page)


def log_out(page):
    page.click("#out")
    expect(page.locator("#entry")).to_be_visible()


# ---- who is there


def nobody_sees_anything(page):
    answer = page.goto(URL)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe-inline" not in policy and "script-src 'self'" in policy, policy
    assert answer.headers["x-frame-options"] == "DENY"
    expect(page.locator("#entry")).to_be_visible()
    expect(page.locator("main")).to_be_hidden()
    expect(page.locator("#name")).to_be_focused()
    picture(page, "log-in")
    page.fill("#name", "ann")
    page.fill("#password", "wrong-password")
    page.press("#password", "Enter")
    expect(page.locator("#message")).to_be_visible()
    expect(page.locator("#entry")).to_be_visible()
    log_in(page, "ann")
    expect(page.locator("#who")).to_have_text("ann, user")
    # Nothing of the password stays in the page or its address, and no script can read the cookie.
    assert page.evaluate("document.cookie") == ""
    assert page.evaluate("sessionStorage.length") == 0
    assert page.input_value("#password") == ""
    page.reload()
    settled(page)
    expect(page.locator("#who")).to_have_text("ann, user")


# ---- functions


def a_function_is_made(page):
    page.get_by_role("link", name="New function").click()
    area = page.get_by_role("textbox", name="Definition, in YAML")
    expect(page.locator("#problems")).to_contain_text("Nothing is wrong")
    area.fill("name: painter\nscript: x\n  y: z\n")
    expect(page.locator("#problems button")).to_contain_text(re.compile(r"Line \d+, column \d+"))
    expect(page.get_by_role("button", name="Register")).to_be_disabled()
    assert area.get_attribute("aria-invalid") == "true"
    picture(page, "definition-wrong")
    area.fill("name: painter\nscript: |\n  true\nmemry: 1Gi\n")
    problem = page.locator("#problems button")
    expect(problem).to_contain_text("Line 4, column 1")
    expect(problem).to_contain_text("memory")
    problem.click()
    expect(area).to_be_focused()
    assert area.evaluate("area => area.value.slice(area.selectionStart)") == "memry: 1Gi\n"
    area.fill(PAINTER)
    expect(page.locator("#problems")).to_contain_text("Nothing is wrong")
    picture(page, "definition")
    page.get_by_role("button", name="Register").click()
    # Its token is shown once.
    dialog = page.get_by_role("dialog", name="Tokens")
    assert len(dialog.locator("pre").inner_text()) == 64
    picture(page, "token")
    dialog.get_by_role("button", name="Done").click()
    expect(page.locator("#function-title")).to_have_text("painter")
    picture(page, "function")


def tried_with_a_file(page):
    file = Path(FOLDER) / "clip.bin"
    # Bytes that are base64 of something else, and JSON to some: they must come through as they are.
    file.write_bytes(b"1234")
    page.set_input_files("input[type=file]", file)
    expect(page.locator("#job-title")).to_contain_text("succeeded")
    expect(page.get_by_role("log")).to_contain_text("got 4 bytes")
    results = page.locator(".preview")
    expect(results).to_have_count(3)
    image = page.locator(".preview img")
    expect(image).to_have_attribute("alt", "picture.png")
    page.wait_for_function("document.querySelector('.preview img').naturalWidth === 64")
    expect(results.filter(has_text="views.json")).to_contain_text('"A4C": 0.91')
    expect(page.locator(".timeline")).to_be_visible()
    expect(page.locator("ul.legend")).to_contain_text("attempt 1: waited")
    expect(page.locator("ul.legend")).to_contain_text("load_model 10.0 ms")
    with page.expect_download() as waiting:
        results.filter(has_text="copy.bin").get_by_role("link").click()
    copy = Path(FOLDER) / "copy"
    waiting.value.save_as(copy)
    assert copy.read_bytes() == b"1234", copy.read_bytes()
    picture(page, "job")


def tried_by_drag_and_drop(page):
    at(page, "function/painter")
    page.get_by_text("Drop a file here").wait_for()
    transfer = page.evaluate_handle("""() => {
        const transfer = new DataTransfer();
        transfer.items.add(new File([new Uint8Array([137, 80, 78, 71, 0, 255])], "dropped & <b>.bin"));
        return transfer;
    }""")
    for event in ["dragover", "drop"]:
        page.dispatch_event(".drop", event, {"dataTransfer": transfer})
    expect(page.locator("#job-title")).to_contain_text("succeeded")
    expect(page.get_by_role("log")).to_contain_text("got 6 bytes")
    # What it was called is text.
    expect(page.locator("dl")).to_contain_text("dropped & <b>.bin")
    assert page.locator("dl b").count() == 0


def tried_with_its_sample(page):
    at(page, "function/painter")
    page.get_by_role("button", name="Run the sample input").click()
    expect(page.locator("#job-title")).to_contain_text("succeeded")
    expect(page.get_by_role("log")).to_contain_text("got 8 bytes")
    expect(page.locator("dl")).to_contain_text("sample.txt")


def versions_are_kept(page):
    at(page, "edit/painter")
    area = page.get_by_role("textbox", name="Definition, in YAML")
    text = area.input_value()
    # As it was written, but for its order: the script stands there as it is read.
    assert 'script: |\n  #!/bin/sh\n  echo "got' in text, text
    area.fill(text.replace("got ", "taken "))
    expect(page.locator("#problems")).to_contain_text("Nothing is wrong")
    page.get_by_role("button", name="Save").click()
    page.get_by_role("dialog", name="Tokens").get_by_role("button", name="Done").click()
    versions = page.locator("section", has=page.get_by_role("heading", name="Versions"))
    expect(versions.locator("tbody tr")).to_have_count(2)
    expect(versions).to_contain_text("2 (now)")
    page.get_by_role("button", name="Restore version 1").click()
    expect(versions.locator("tbody tr")).to_have_count(3)
    expect(versions).to_contain_text("3 (now)")
    versions.locator("summary").first.click()
    expect(versions.locator("pre").first).to_contain_text("got ")
    picture(page, "versions")


# ---- jobs


def logs_come_and_jobs_are_cancelled(page):
    gate = Path(FOLDER) / "gate"
    os.mkfifo(gate)
    define("ann", f"name: slow\nscript: |\n  echo first\n  read line < {gate}\n  echo last\n  sleep 1000\n")
    at(page, "jobs")
    expect(page.locator("main table")).to_contain_text("painter")
    status, headers, _ = ask("ann", "POST", "/job/slow", "{}")
    assert status == 201
    # It comes by itself.
    row = page.locator("tr", has_text="slow")
    expect(row).to_contain_text("running")
    picture(page, "jobs")
    page.select_option("#filter-function", "painter")
    expect(row).to_have_count(0)
    page.select_option("#filter-function", "slow")
    page.select_option("#filter-state", "RUNNING")
    expect(row).to_have_count(1)
    row.get_by_role("link").nth(1).click()
    log = page.get_by_role("log")
    expect(log).to_contain_text("first")
    assert "last" not in log.inner_text()
    gate.write_text("go\n")
    expect(log).to_contain_text("last")
    expect(page.locator("#job-title")).to_contain_text("running")
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#job-title")).to_contain_text("cancelled")
    picture(page, "cancelled")


def dead_letters(page):
    define("ann", "name: failing\nscript: |\n  echo it is broken >&2\n  exit 3\nretry: { attempts: 2, min_wait: 10ms, max_wait: 10ms }\n")
    for _ in range(2):
        assert ask("ann", "POST", "/run/failing", "")[0] == 500
    at(page, "dead")
    rows = page.locator("main tbody tr")
    expect(rows).to_have_count(2)
    expect(rows.first).to_contain_text("code 3")
    picture(page, "dead-letters")
    page.get_by_role("button", name=re.compile("^Give failing .* up")).first.click()
    expect(rows).to_have_count(1)
    rows.first.get_by_role("link").nth(1).click()
    expect(page.locator("ul.legend")).to_contain_text("attempt 2")
    page.get_by_role("button", name="Replay").click()
    # First that this is the new job's page: the old one's says failed, too.
    expect(page.locator("dl")).to_contain_text("replay")
    expect(page.locator("#job-title")).to_contain_text("failed")
    at(page, "dead")
    expect(rows).to_have_count(1)
    page.get_by_role("button", name="Give all up").click()
    page.get_by_role("dialog").get_by_role("button", name="Give up").click()
    expect(page.locator("main")).to_contain_text("There is none")


def words_are_words(page):
    """Names, logs, reasons and results that are markup stay what they are: text."""
    define("ann", json.dumps({
        "name": "hostile",
        "script": f"echo '<script>alert(2)</script>{HOSTILE}'\nprintf '%s' '{HOSTILE}' > \"$TMP_OUTPUT_DIR/{HOSTILE}.txt\"\n"
                  f"printf '<svg xmlns=\"http://www.w3.org/2000/svg\" onload=\"alert(3)\"/>' > \"$TMP_OUTPUT_DIR/x.svg\"\n"
                  "printf '<script>alert(4)</script>' > \"$TMP_OUTPUT_DIR/x.html\"\n",
        "environment": {"variables": {"X": HOSTILE}},
        "annotations": {HOSTILE: HOSTILE, "rgpu.io/sample": "data:,x", "rgpu.io/sample-name": HOSTILE},
    }))
    at(page, "function/hostile")
    page.get_by_role("button", name="Run the sample input").click()
    expect(page.locator("#job-title")).to_contain_text("succeeded")
    expect(page.get_by_role("log")).to_contain_text(HOSTILE)
    expect(page.locator(".preview")).to_have_count(3)
    expect(page.locator(".preview", has_text="onerror").locator("pre")).to_have_text(HOSTILE)
    expect(page.locator("dl")).to_contain_text(HOSTILE)
    picture(page, "words")
    job = page.evaluate("location.hash").split("/")[1]
    # Neither is shown as what it says it is, however one asks.
    for number in range(3):
        for query in ["", "?preview=true"]:
            status, headers, _ = ask("ann", "GET", f"/jobs/{job}/files/{number}{query}")
            kind = headers["Content-Type"]
            assert status == 200 and ("octet-stream" in kind or "text/plain" in kind), kind
            assert "sandbox" in headers["Content-Security-Policy"] and headers["X-Content-Type-Options"] == "nosniff"
    define("ann", json.dumps({"name": "angry", "script": f"echo '{HOSTILE}' >&2\nexit 1\n", "retry": {"attempts": 1}}))
    ask("ann", "POST", f"/run/angry?filename={urllib.parse.quote(HOSTILE)}", "x")
    for place in ["jobs", "dead", "functions", "edit/hostile", "function/hostile", "job/" + urllib.parse.quote(HOSTILE, safe=""),
                  "function/" + urllib.parse.quote(HOSTILE, safe=""), "jobs/" + urllib.parse.quote(f"function={HOSTILE}", safe="")]:
        at(page, place)
        assert page.locator("main img").count() == 0 and page.locator("main script").count() == 0, place
    ask("ann", "DELETE", "/system/dead-letter")


# ---- files and use


def own_files(page):
    assert ask("ada", "PUT", "/files/data/secret/plan.txt", "the plan")[0] == 201
    assert ask("bob", "PUT", "/files/data/users/bob/notes.txt", "of bob")[0] == 201
    at(page, "files/data")
    expect(page.locator("#prefix")).to_have_value("users/ann")
    expect(page.locator("main")).to_contain_text("There is no file here")
    file = Path(FOLDER) / "a & b #1.txt"
    file.write_text("mine")
    page.set_input_files("input[type=file]", file)
    row = page.locator("tbody tr")
    expect(row).to_contain_text("users/ann/a & b #1.txt")
    picture(page, "files")
    with page.expect_download() as waiting:
        row.get_by_role("link").click()
    waiting.value.save_as(Path(FOLDER) / "again")
    assert (Path(FOLDER) / "again").read_text() == "mine"
    # Nobody else's, whatever one types.
    for folder in ["users/bob", "secret", "users/ann/../bob", "users/annabel"]:
        page.fill("#prefix", folder)
        page.press("#prefix", "Enter")
        expect(page.locator("main")).to_contain_text(re.compile("your own files|is no folder"))
        at(page, "files/data")
    for path in ["data/users/bob/notes.txt", "data/secret/plan.txt", "data/users/ann/../bob/notes.txt", "data/users%2Fbob/notes.txt",
                 "data/users/ann/..%2Fbob/notes.txt"]:
        for method in ["GET", "PUT", "DELETE"]:
            status, _, body = ask("ann", method, f"/files/{path}", "x" if method == "PUT" else None)
            assert status == 403, (method, path, status, body)
    assert ask("bob", "GET", "/files/data/users/bob/notes.txt")[2] == b"of bob"
    assert ask("vic", "GET", "/files/data/users/bob/notes.txt")[0] == 403
    # Nor by a function that takes or gives them.
    for folder in ["data", "data/users", "data/users/bob", "data/users/bob/in"]:
        for side in ["input", "output"]:
            if (folder, side) == ("data", "input"):
                # That is no input folder at all.
                continue
            status, _, body = ask("ann", "PUT", "/system/services", json.dumps({"name": "thief", "script": "true\n", side: [{"path": folder}]}))
            assert status == 403 and b"other people" in body, (folder, side, status, body)
    define("ann", json.dumps({"name": "honest", "script": "true\n", "input": [{"path": "data/users/ann/in"}]}))
    page.get_by_role("button", name="Delete users/ann/a & b #1.txt").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.locator("main")).to_contain_text("There is no file here")


def use_and_cost(page):
    at(page, "usage")
    expect(page.locator("main tbody tr")).to_have_count(1)
    expect(page.locator("main tbody")).to_contain_text("painter")
    # What is somebody else's is not told.
    assert "somebody" not in page.inner_text("main")
    page.select_option("#time", "1h")
    expect(page.locator("rect.bar")).not_to_have_count(0)
    page.focus(".chart[role=group]")
    said = page.locator("main p[aria-live=polite]")
    told = []
    page.keyboard.press("Home")
    for _ in range(14):
        told.append(said.inner_text())
        page.keyboard.press("ArrowRight")
    assert any("painter" in text for text in told) and any("nothing" in text for text in told), told
    page.select_option("#measure", "sessions")
    settled(page)
    picture(page, "usage")


# ---- what others could do


def stolen_cookies_change_nothing(page):
    """A session's cookie alone, as another page or a thief without the second secret would send it."""
    cookies = page.context.cookies()
    [cookie] = [cookie for cookie in cookies if cookie["name"] == "rgpu-faas"]
    assert cookie["httpOnly"] and cookie["sameSite"] == "Strict", cookie
    shown = f"rgpu-faas={cookie['value']}"
    for method, path in [("POST", "/job/painter"), ("DELETE", "/system/services/painter"), ("PUT", "/system/services"),
                         ("PUT", "/files/data/users/ann/x"), ("POST", "/access/tokens/painter"), ("POST", "/system/check")]:
        for headers in [{}, {"X-CSRF-Token": "0" * 64}, {"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}]:
            status, _, body = ask(None, method, path, "x", Cookie=shown, **headers)
            assert status == 403, (method, path, headers, status, body)
    # Reading from another site's page is refused too.
    assert ask(None, "GET", "/jobs", Cookie=shown, **{"Sec-Fetch-Site": "cross-site"})[0] == 403
    assert ask(None, "GET", "/jobs", Cookie=shown)[0] == 200


class Evil(http.server.BaseHTTPRequestHandler):
    """Another site, whose page is open in the same browser."""

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>evil</title><p>Win a prize</p>")

    def log_message(self, *_):
        pass


def other_pages_change_nothing(context, evil):
    page = context.new_page()
    page.goto(evil)
    for root in [ROOT, OPEN.split("/#")[0]]:
        outcome = page.evaluate("""async (root) => {
            const tried = [];
            for (const options of [{ method: "POST", mode: "no-cors", credentials: "include", body: "{}" }, { method: "POST", credentials: "include", headers: { "X-CSRF-Token": "x" }, body: "{}" }]) {
                tried.push(await fetch(`${root}/job/painter`, options).then((answer) => `${answer.type} ${answer.status}`, (error) => "refused"));
            }
            tried.push(await fetch(`${root}/jobs`, { credentials: "include" }).then((answer) => answer.text(), () => "refused"));
            return tried;
        }""", root)
        # The first is sent and its answer hidden; the journal tells what came of it.
        assert outcome[1:] == ["refused", "refused"], outcome
        page.evaluate("""(root) => {
            const form = document.createElement("form");
            Object.assign(form, { method: "POST", action: `${root}/job/painter`, target: "_self" });
            document.body.append(form);
            form.submit();
        }""", root)
        page.wait_for_url(f"{root}/job/painter")
        assert re.search("401|403|another site|web pages|valid token", page.inner_text("body")), page.inner_text("body")
        page.goto(evil)
        # Not in a frame either: what is loaded there is the browser's word that it was refused.
        page.evaluate("""(root) => new Promise((resolve) => {
            const frame = document.createElement("iframe");
            frame.onload = resolve;
            frame.src = `${root}/`;
            document.body.append(frame);
        })""", root)
        assert not page.frames[-1].url.startswith(root), page.frames[-1].url
    page.close()


def count_jobs(who, root=ROOT):
    return len(json.loads(ask(who, "GET", "/jobs?limit=1000", root=root)[2])["jobs"])


def others_see_their_own(page):
    log_out(page)
    log_in(page, "bob")
    expect(page.locator("main")).to_contain_text("There is none yet")
    at(page, "jobs")
    expect(page.locator("main")).to_contain_text("There is no such job")
    at(page, "function/painter")
    expect(page.locator("main")).to_contain_text("not yours, or does not exist")
    log_out(page)
    log_in(page, "vic")
    expect(page.locator("main")).to_contain_text("painter")
    expect(page.get_by_role("link", name="New function")).to_have_count(0)
    at(page, "function/painter")
    expect(page.get_by_role("button", name="Delete")).to_have_count(0)
    expect(page.locator("main")).not_to_contain_text("Drop a file")
    log_out(page)
    log_in(page, "ada")
    at(page, "files/data")
    expect(page.locator("main")).to_contain_text("secret/plan.txt")
    at(page, "function/painter")
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Keep").click()
    expect(page.locator("#function-title")).to_have_text("painter")


# ---- how it is used


def colours(page):
    back = lambda: page.evaluate("getComputedStyle(document.body).backgroundColor")
    light = back()
    page.click("#theme")
    assert back() != light
    for place in ["functions", "jobs", "usage/1h", "edit/painter"]:
        at(page, place)
        picture(page, f"dark-{place.split('/')[0]}")
    jobs = json.loads(ask("ann", "GET", "/jobs?function=painter&limit=1")[2])["jobs"]
    at(page, f"job/{jobs[0]['id']}")
    expect(page.locator(".preview img")).to_be_visible()
    picture(page, "dark-job")
    page.reload()
    settled(page)
    assert back() != light, "the choice is remembered"
    page.click("#theme")
    assert back() == light


def keyboard(page):
    """Everything is reached by Tab, shows where one is, and has a name."""
    at(page, "functions")
    page.reload()
    settled(page)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    reached = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.innerText || document.activeElement.tagName"))
    assert {"painter", "New function", "Jobs", "Usage", "Log out"} <= reached, reached
    page.get_by_role("link", name="painter", exact=True).focus()
    page.keyboard.press("Enter")
    expect(page.locator("#function-title")).to_have_text("painter")
    expect(page.locator("main")).to_be_focused()
    outline = page.evaluate("""() => { const b = document.querySelector("main button"); b.focus({ focusVisible: true }); return getComputedStyle(b).outlineStyle; }""")
    assert outline == "solid", outline
    for place in ["functions", "function/painter", "edit/painter", "jobs", "dead", "files/data", "usage"]:
        at(page, place)
        nameless = page.evaluate("""() => [...document.querySelectorAll("input, select, textarea, button, a[href], [role=group], [role=log]")].filter((one) => {
            const label = one.labels && one.labels.length && one.labels[0].innerText;
            return !(label || one.getAttribute("aria-label") || one.getAttribute("aria-labelledby") || one.innerText || one.hidden || one.closest("[hidden]"));
        }).map((one) => one.outerHTML)""")
        assert not nameless, (place, nameless)
        assert page.locator("h1").count() == 1 and page.locator("main h2").count() >= 1, place


def on_a_telephone(context):
    page = context.new_page()
    page.set_viewport_size({"width": 320, "height": 640})
    page.goto(URL)
    settled(page)
    jobs = json.loads(ask("ann", "GET", "/jobs?function=painter&limit=1")[2])["jobs"]
    for place in ["functions", "function/painter", "edit/painter", "jobs", f"job/{jobs[0]['id']}", "dead", "files/data", "usage/1h", "edit"]:
        at(page, place)
        if place.startswith("job/"):
            expect(page.locator(".preview img")).to_be_visible()
        wide = page.evaluate("document.scrollingElement.scrollWidth")
        assert wide <= 320, f"{place} is {wide} pixels wide"
        picture(page, f"telephone-{place.split('/')[0]}" + ("-" + place.split("/")[1][:8] if place.count("/") else ""))
    page.close()


def without_credentials(context):
    """On this machine alone: who has the address that was printed may change things, who has not may look."""
    page = context.new_page()
    bare, key = OPEN.split("/#key=")
    page.goto(bare)
    settled(page)
    expect(page.locator("#notice")).to_contain_text("change nothing")
    expect(page.get_by_role("link", name="New function")).to_have_count(0)
    refused = page.evaluate("""async () => (await fetch("job/x", { method: "POST", body: "{}" })).status""")
    assert refused == 403, refused
    refused = page.evaluate("""async () => (await fetch("job/x", { method: "POST", body: "{}", headers: { "X-CSRF-Token": "0".repeat(64) } })).status""")
    assert refused == 403, refused
    picture(page, "looking-only")
    page.goto(OPEN)
    expect(page.locator("#notice")).to_be_hidden()
    page.reload()
    settled(page)
    expect(page.locator("#notice")).to_be_hidden()
    assert key not in page.url, page.url
    page.get_by_role("link", name="New function").click()
    expect(page.locator("#problems")).to_contain_text("Nothing is wrong")
    page.get_by_role("button", name="Register").click()
    expect(page.locator("#function-title")).to_have_text("hello")
    page.get_by_role("button", name="Run the sample input").click()
    expect(page.locator("#job-title")).to_contain_text("succeeded")
    expect(page.get_by_role("log")).to_contain_text("Hello from hello")
    at(page, "usage")
    expect(page.locator("main")).to_contain_text("No accounts are configured")
    page.close()


def main():
    evil = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Evil)
    threading.Thread(target=evil.serve_forever, daemon=True).start()
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as profile:
        context = playwright.chromium.launch_persistent_context(
            profile, executable_path=CHROMIUM, args=ARGUMENTS, viewport={"width": 1200, "height": 900}, accept_downloads=True,
            color_scheme="light",
        )
        context.set_default_timeout(60_000)
        expect.set_options(timeout=60_000)
        wrong = []
        page = context.pages[0]
        expected = ("status of 4", "has been blocked by CORS policy", "net::ERR_FAILED", "net::ERR_BLOCKED_BY", "frame-ancestors", "X-Frame-Options", "Refused to display")

        def watch(page):
            page.on("pageerror", lambda error: wrong.append(str(error)))
            # A refused request is said there as well, and is meant.
            page.on("console", lambda said: said.type == "error" and not any(word in said.text for word in expected) and wrong.append(said.text))
            page.on("dialog", lambda dialog: (wrong.append(f"somebody's words have run: {dialog.message}"), dialog.dismiss()))
            own = (ROOT, OPEN.split("/#")[0], f"http://127.0.0.1:{evil.server_port}", "data:", "blob:")
            page.on("request", lambda request: request.url.startswith(own) or wrong.append(request.url))

        watch(page)
        context.on("page", watch)
        parts = [nobody_sees_anything, a_function_is_made, tried_with_a_file, tried_by_drag_and_drop, tried_with_its_sample, versions_are_kept,
                 logs_come_and_jobs_are_cancelled, dead_letters, words_are_words, own_files, use_and_cost, stolen_cookies_change_nothing]
        for part in parts:
            part(page)
            print(f"{part.__name__}: as it should be")
        before = count_jobs("ada")
        other_pages_change_nothing(context, f"http://127.0.0.1:{evil.server_port}/")
        assert count_jobs("ada") == before and count_jobs(None, OPEN.split("/#")[0]) == 0
        print("other_pages_change_nothing: as it should be")
        for part in [colours, keyboard]:
            part(page)
            print(f"{part.__name__}: as it should be")
        on_a_telephone(context)
        print("on_a_telephone: as it should be")
        others_see_their_own(page)
        print("others_see_their_own: as it should be")
        without_credentials(context)
        print("without_credentials: as it should be")
        context.close()
        assert not wrong, wrong


main()
