"""Opens a picture in headless Chromium and says as JSON whether it is one.

    picture.py PICTURE.svg      as drive.py, which see"""

import json, sys
from pathlib import Path
from playwright.sync_api import sync_playwright

sys.dont_write_bytecode = True
from browser import browser

seen = {"errors": []}
with sync_playwright() as play:
    chromium = play.chromium.launch(executable_path=browser(), args=["--no-sandbox", "--disable-gpu"])
    page = chromium.new_page()
    page.on("pageerror", lambda error: seen["errors"].append(str(error)))
    page.on("dialog", lambda dialog: (seen["errors"].append(dialog.message), dialog.dismiss()))
    page.goto(Path(sys.argv[1]).resolve().as_uri())
    # What is no XML is shown as what was read of it, below an error.
    seen["errors"] += page.evaluate("[...document.querySelectorAll('parsererror')].map((e) => e.textContent)")
    seen["root"] = page.evaluate("document.documentElement.localName")
    seen["frames"] = page.evaluate("document.querySelectorAll('g > title').length")
    seen["pwned"] = page.evaluate("window.pwned ?? null")
    chromium.close()
print(json.dumps(seen))
