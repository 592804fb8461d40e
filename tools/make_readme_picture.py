"""Make docs/report.png, the README's picture, from four figures of the report of a run with all stages.

    ntklens demo --out runs/demo
    python tools/make_readme_picture.py runs/demo

The figures are told by the beginning of their alternative texts, so that this file needs to know nothing else of them.
"""

import io
import sys
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from ntklens.record import Record
from ntklens.report.figures.style import styled
from ntklens.report.sections import sections

TARGET = Path(__file__).parents[1] / "docs/report.png"
WIDTH = 720
"""Pixels of one figure; there are two side by side."""
TITLE = 34
MARGIN = 18
CHOSEN = (
    ("Clothes attacked without training a network", "Grid of clean images"),
    ("Trained networks under that attack", "Line plot of the accuracy of finite networks"),
    ("What the features of the data look at", "Grid of test images"),
    ("The first features hold the robustness", "Line plot of clean and robust accuracy against the number of features"),
)
"""The title of each figure, and how its alternative text begins."""


def draw(record: Record, beginning: str) -> Image.Image:
    """Draw the figure of the report whose alternative text begins so, WIDTH pixels wide."""
    plates = [plate for section in sections(record) for plate in section.plates]
    plate = next(plate for plate in plates if plate.alt.startswith(beginning))
    with styled():
        figure = plate.make()
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=2 * WIDTH / figure.get_size_inches()[0])
    picture = Image.open(buffer).convert("RGB")
    # Drawn at twice the size and reduced, so that thin lines stay smooth.
    return picture.resize((WIDTH, round(picture.height * WIDTH / picture.width)), Image.Resampling.LANCZOS)


def main(folder: Path) -> None:
    """Place the figures in two rows and write the picture."""
    record = Record.open(folder)
    figures = [draw(record, beginning) for _, beginning in CHOSEN]
    heights = [max(f.height for f in figures[row : row + 2]) + TITLE + MARGIN for row in (0, 2)]
    page = Image.new("RGB", (2 * WIDTH + 3 * MARGIN, sum(heights) + MARGIN), "white")
    pen = ImageDraw.Draw(page)
    font = ImageFont.load_default(size=20)
    for i, (figure, (title, _)) in enumerate(zip(figures, CHOSEN, strict=True)):
        x, y = MARGIN + (i % 2) * (WIDTH + MARGIN), MARGIN + (heights[0] if i > 1 else 0)
        pen.text((x, y), title, fill="black", font=font)
        page.paste(figure, (x, y + TITLE))
    # 256 colours keep the file small. Maximum coverage keeps rare colours apart, such as the lines' orange and red.
    page.quantize(256, Image.Quantize.MAXCOVERAGE).save(TARGET, optimize=True)
    print(f"{TARGET}: {TARGET.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
