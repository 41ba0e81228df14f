"""Writes a sample photo to standard output: an evening by the water, drawn rather than photographed.

    python3 request/make_photo.py > photo.jpg

A generated picture keeps a binary out of the repository and belongs to nobody.
"""

import io
import sys

from PIL import Image, ImageDraw, ImageFilter

WIDTH, HEIGHT = 1600, 1067


def photo():
    """The picture as JPEG bytes, the same at every call."""
    horizon = HEIGHT * 3 // 5
    image = Image.new("RGB", (WIDTH, HEIGHT))
    draw = ImageDraw.Draw(image)
    for y in range(HEIGHT):
        if y < horizon:
            part = y / horizon
            colour = (int(40 + 200 * part), int(60 + 110 * part), int(120 - 20 * part))
        else:
            part = (y - horizon) / (HEIGHT - horizon)
            colour = (int(150 - 120 * part), int(110 - 70 * part), int(110 - 30 * part))
        draw.line([(0, y), (WIDTH, y)], fill=colour)
    draw.ellipse([700, horizon - 150, 900, horizon + 50], fill=(255, 236, 180))
    draw.rectangle([0, horizon, WIDTH, horizon + 4], fill=(90, 60, 70))
    for row in range(12):
        y = horizon + 20 + row * 32
        half = 110 - row * 6
        draw.line([(800 - half, y), (800 + half, y)], fill=(255, 220, 160), width=5)
    # The gate: two posts and three bars.
    for x in (240, 500):
        draw.rectangle([x, horizon - 260, x + 26, HEIGHT], fill=(45, 30, 35))
    for bar in range(3):
        y = horizon - 210 + bar * 110
        draw.rectangle([240, y, 526, y + 22], fill=(55, 38, 42))
    image = image.filter(ImageFilter.GaussianBlur(1.2))
    out = io.BytesIO()
    image.save(out, "JPEG", quality=88)
    return out.getvalue()


if __name__ == "__main__":
    sys.stdout.buffer.write(photo())
