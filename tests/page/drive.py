"""Opens a report in headless Chromium, uses it as a person would, and says what was seen as JSON.

    drive.py REPORT.html [FOLDER]      with a folder: screenshots of each part go there

Needs PyPI's `playwright` (no browser of its own) and a Chromium from the system."""

import json, sys
from pathlib import Path
from playwright.sync_api import sync_playwright

sys.dont_write_bytecode = True
from browser import browser

page_file = Path(sys.argv[1]).resolve()
pictures = Path(sys.argv[2]) if len(sys.argv) > 2 and sys.argv[2] else None
seen = {"errors": [], "fetched": []}
with sync_playwright() as play:
    chromium = play.chromium.launch(executable_path=browser(), args=["--no-sandbox", "--disable-gpu"])
    page = chromium.new_page(viewport={"width": 1320, "height": 900}, color_scheme="light", reduced_motion="reduce")
    page.on("pageerror", lambda error: seen["errors"].append(str(error)))
    page.on("console", lambda said: said.type == "error" and seen["errors"].append(said.text))
    page.on("request", lambda asked: seen["fetched"].append(asked.url))
    page.goto(page_file.as_uri())
    page.wait_for_selector("html[data-ready]", timeout=60_000)
    seen["ready_ms"] = int(page.evaluate("document.documentElement.dataset.ready"))
    text = lambda selector: page.locator(selector).first.inner_text()
    roots = lambda: page.evaluate("state.flame.root.order.map((node) => node.name)")
    total = lambda: page.evaluate("state.flame.root.total")

    def picture(name, selector=None):
        if not pictures:
            return
        pictures.mkdir(parents=True, exist_ok=True)
        if selector:
            page.evaluate("document.querySelector('.top').style.position = 'static'")
            page.locator(selector).screenshot(path=pictures / f"{name}.png")
            page.evaluate("document.querySelector('.top').style.position = ''")
        else:
            page.screenshot(path=pictures / f"{name}.png")

    seen["title"], seen["sections"] = page.title(), [s.get_attribute("id") for s in page.locator("main section").all()]
    seen["tiles"] = page.locator(".tile").all_inner_texts()
    seen["trust"], seen["findings"] = text(".trust"), page.locator(".finding").count()
    seen["commands"] = page.locator(".cmd").all_inner_texts()
    seen["text"] = page.inner_text("main")
    seen["verdicts"] = page.locator("#ranking .verdict").all_inner_texts()
    seen["ranks"] = page.locator(".rank").all_inner_texts()
    seen["lines"] = page.locator("#time h3").all_inner_texts()
    picture("report")
    picture("report-summary", "#summary")
    picture("report-ledger", "#ledger")

    # The ledger's bars are whole, and its switch leaves the work alone.
    bars = "[...document.querySelectorAll('.accounts .stack')].map((bar) => [...bar.children].filter((part) => !part.hidden).reduce((sum, part) => sum + parseFloat(part.style.width), 0))"
    seen["bars"] = page.evaluate(bars)
    page.get_by_role("button", name="Work only").click()
    seen["work_bars"] = page.evaluate(bars)
    page.get_by_role("button", name="Work only").click()

    # Search by key, then away again; weights, states, threads, windows.
    seen["roots"] = roots()
    page.keyboard.press("/")
    page.keyboard.type(sys.argv[3] if len(sys.argv) > 3 else "tcp")
    seen["found"] = text(".found")
    picture("report-flame", "#flame")
    page.keyboard.press("Escape")
    seen["found_after"] = text(".found")
    seen["weights"] = {}
    for name in page.locator(".seg button").all_inner_texts():
        page.locator(".seg button", has_text=name).click()
        seen["weights"][name] = total()
    page.keyboard.press("w")
    seen["weight_by_key"] = text(".seg button[aria-pressed=true]")
    page.keyboard.press("b")
    seen["busy_roots"] = roots()
    page.keyboard.press("b")
    page.get_by_role("button", name="Samples").click()
    seen["by_thread"] = []
    for at in range(page.locator("select[aria-label=Thread] option").count() - 1):
        page.select_option("select[aria-label=Thread]", str(at))
        seen["by_thread"].append(total())
    page.select_option("select[aria-label=Thread]", "-1")
    seen["by_cpu"] = []
    for value in page.evaluate("[...document.querySelectorAll('select[aria-label=CPU] option')].slice(1).map((o) => o.value)"):
        page.select_option("select[aria-label=CPU]", value)
        seen["by_cpu"].append(total())
    page.select_option("select[aria-label=CPU]", "-1")
    page.select_option("select[aria-label='Split by']", "thread")
    seen["split"] = page.evaluate("state.flame.root.order.flatMap((node) => node.order.map((below) => below.name))")
    page.select_option("select[aria-label='Split by']", "")
    seen["by_window"] = []
    strip = page.locator(".strip")
    if strip.count():
        strip.focus()
        for _ in range(page.locator(".strip > div").count()):
            page.keyboard.press("ArrowRight")
            seen["by_window"].append(total())
        page.keyboard.press("Escape")
    seen["all"] = total()

    # The graph by keys: down twice, zoom, what it says, out again.
    page.locator(".flame canvas").focus()
    for key in ("ArrowDown", "ArrowDown", "ArrowDown", "Enter"):
        page.keyboard.press(key)
    seen["zoomed"], seen["crumbs"] = page.evaluate("state.flame.zoom"), text(".crumbs")
    seen["tip"] = page.locator("#tip").inner_text()
    page.keyboard.press("Escape")
    seen["unzoomed"] = page.evaluate("state.flame.zoom")

    # A finding leads to where it is shown; a slow request opens.
    if page.locator(".follow").count():
        page.locator(".follow").first.click()
        seen["followed"] = page.evaluate("document.querySelector('.target')?.id")
    if page.locator(".slow").count():
        page.locator(".slow").first.focus()
        page.keyboard.press("Enter")
        seen["request"] = text("#request")
        picture("report-requests", "#latency")
    picture("report-time", "#time")
    if page.locator("#recording:visible").count():
        page.select_option("select[aria-label=Beside]", "0")
        seen["beside"] = total()
        picture("report-beside", "#flame")
        page.select_option("#recording", "1")
        seen["other_title"] = page.title()

    # What limits a recording in words leads to the place in that recording.
    if page.locator(".lead-there").count():
        link = page.locator(".rank").last.locator(".lead-there").first
        link.click()
        seen["led_to"] = [page.title(), page.evaluate("document.querySelector('.target')?.id")]

    page.keyboard.press("Escape")
    page.keyboard.press("?")
    seen["keys"] = page.locator("dialog[open] kbd").count()
    page.keyboard.press("Escape")
    page.keyboard.press("d")
    seen["theme"] = page.evaluate("document.documentElement.dataset.theme")
    page.keyboard.press(str(seen["sections"].index("flame") + 1))
    page.evaluate("state.pick(null)")
    picture("report-dark")
    seen["pwned"] = page.evaluate("window.pwned ?? null")
    page.emulate_media(media="print")
    seen["printed_header"] = page.locator(".top").is_visible()
    # What a browser says before it prints: paper is light.
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    seen["printed_theme"] = page.evaluate("document.documentElement.dataset.theme")
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    seen["theme_after"] = page.evaluate("document.documentElement.dataset.theme")
    if pictures:
        page.pdf(path=pictures / "report.pdf")
    chromium.close()
print(json.dumps(seen))
