"""The browser that pages and pictures are opened in: the system's Chromium."""

import shutil, sys


def browser():
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    sys.exit("no Chromium is installed")
