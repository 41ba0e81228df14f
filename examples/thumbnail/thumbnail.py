"""A photo in, a small JPEG out: at most 256 pixels a side, or as many as `?size=` says."""

import io

from PIL import Image, ImageOps, UnidentifiedImageError

DEFAULT_SIZE = 256
MAX_SIZE = 2048
# The header of a tiny file can promise a picture of gigabytes. Its size is read before a pixel is decoded, and anything
# above fifty megapixels (150 MB decoded) is refused.
MAX_PIXELS = 50_000_000
FORMATS = ("JPEG", "PNG", "WEBP", "GIF")
QUALITY = 85


class Refused(Exception):
    """What the caller sent cannot be used; carries the status that says why."""

    def __init__(self, status, message):
        super().__init__(message)
        self.status = status


def handler(event, context):
    if event.method not in ("POST", "PUT"):
        return {"error": "send the picture as the body of a POST"}, 405, {"Allow": "POST, PUT"}
    try:
        size = wanted_size(event.query.get("size"))
        picture, width, height = shrink(event.body, size)
    except Refused as refused:
        return {"error": str(refused)}, refused.status
    return picture, 200, {"Content-Type": "image/jpeg", "X-Image-Size": f"{width}x{height}"}


def wanted_size(text):
    """The side in pixels that `?size=` asks for."""
    if text is None:
        return DEFAULT_SIZE
    # `isdecimal` alone would let Arabic-Indic digits pass, and `int` reads them.
    if not (text.isascii() and text.isdecimal() and len(text) <= 4 and 1 <= int(text) <= MAX_SIZE):
        raise Refused(400, f"size is {text[:20]!r}; expected a whole number from 1 to {MAX_SIZE}")
    return int(text)


def shrink(data, size):
    """The picture `data` as a JPEG of at most `size` pixels a side, with the width and height it came out with."""
    if not data:
        raise Refused(400, "the body is empty; expected a picture")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise Refused(413, f"the picture is {image.width}x{image.height}; at most {MAX_PIXELS} pixels are taken")
            # Lets the JPEG decoder scale while it decodes, which costs a fraction of decoding every pixel.
            image.draft("RGB", (size, size))
            small = upright(image)
            small.thumbnail((size, size))
            out = io.BytesIO()
            small.save(out, "JPEG", quality=QUALITY, optimize=True)
            return out.getvalue(), small.width, small.height
    except UnidentifiedImageError:
        raise Refused(415, "the body is not a picture; expected one of " + ", ".join(FORMATS)) from None
    except Image.DecompressionBombError:
        # Pillow's own guard, which speaks first for pictures far above our limit.
        raise Refused(413, f"the picture is too large; at most {MAX_PIXELS} pixels are taken") from None
    except (OSError, ValueError, SyntaxError) as broken:
        raise Refused(422, f"the picture is damaged: {broken}") from None


def upright(image):
    """The picture turned as its camera held it, in plain RGB; transparency becomes white."""
    image = ImageOps.exif_transpose(image)
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        page = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(page, image).convert("RGB")
    return image.convert("RGB")
