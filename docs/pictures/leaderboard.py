"""Takes the screenshot of the leaderboard: `python docs/pictures/leaderboard.py ADDRESS`.

ADDRESS is the one that `marsexp ui` prints. Needs Chromium and chromedriver.
"""

import io
import shutil
import sys
import time
from pathlib import Path

from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

PICTURE = Path(__file__).with_suffix(".png")
# Leaves out MLflow's own menu on the left and all but the first rows.
LEFT, ROWS = 205, 14
WIDTH = 1200
COLOURS = 256
SETTLES_S = 3


def main(address: str) -> None:
    """Opens the address, closes popups that cover the table, and saves a small screenshot."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1900,1143"):
        options.add_argument(flag)
    service = webdriver.ChromeService(executable_path=shutil.which("chromedriver"))
    with webdriver.Chrome(options=options, service=service) as driver:
        driver.get(address)
        wait = WebDriverWait(driver, 60)
        wait.until(lambda page: page.find_elements(By.CSS_SELECTOR, ".ag-row"))
        time.sleep(SETTLES_S)
        for button in driver.find_elements(By.CSS_SELECTOR, "[aria-label='Close']"):
            button.click()
        time.sleep(SETTLES_S)
        rows = driver.find_elements(By.CSS_SELECTOR, ".ag-row")
        bottom = int(sorted({row.rect["y"] + row.rect["height"] for row in rows})[:ROWS][-1])
        page = Image.open(io.BytesIO(driver.get_screenshot_as_png())).convert("RGB")
    part = page.crop((LEFT, 0, page.width, min(bottom, page.height)))
    small = part.resize((WIDTH, round(part.height * WIDTH / part.width)), Image.Resampling.LANCZOS)
    # This quantiser keeps the colours of the runs' small dots.
    small.quantize(COLOURS, Image.Quantize.FASTOCTREE).save(PICTURE, optimize=True)


if __name__ == "__main__":
    main(sys.argv[1])
