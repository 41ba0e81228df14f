import io
import pathlib
import struct
import sys
import types
import unittest
import zlib

from PIL import Image

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE / "request")]

import make_photo
import thumbnail


def call(body, query=None, method="POST"):
    event = types.SimpleNamespace(method=method, query=query or {}, body=body)
    answer = thumbnail.handler(event, None)
    return answer if len(answer) == 3 else (*answer, {})


def encoded(image, kind="PNG", **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


class Thumbnail(unittest.TestCase):
    def test_a_photo_shrinks_to_256_pixels_and_keeps_its_shape(self):
        body, status, headers = call(make_photo.photo())
        self.assertEqual(status, 200)
        self.assertEqual(headers["Content-Type"], "image/jpeg")
        small = Image.open(io.BytesIO(body))
        self.assertEqual((small.format, small.size), ("JPEG", (256, 171)))
        self.assertEqual(headers["X-Image-Size"], "256x171")

    def test_size_is_honoured(self):
        body, status, _ = call(make_photo.photo(), {"size": "64"})
        self.assertEqual(status, 200)
        self.assertEqual(max(Image.open(io.BytesIO(body)).size), 64)

    def test_a_small_picture_does_not_grow(self):
        body, status, _ = call(encoded(Image.new("RGB", (20, 10), "red")))
        self.assertEqual((status, Image.open(io.BytesIO(body)).size), (200, (20, 10)))

    def test_transparency_becomes_white(self):
        body, status, _ = call(encoded(Image.new("RGBA", (8, 8), (255, 0, 0, 0))))
        self.assertEqual(status, 200)
        self.assertTrue(all(part > 250 for part in Image.open(io.BytesIO(body)).getpixel((4, 4))))

    def test_the_camera_turn_is_applied(self):
        exif = Image.Exif()
        exif[0x0112] = 6
        body, status, _ = call(encoded(Image.new("RGB", (40, 20)), "JPEG", exif=exif))
        self.assertEqual((status, Image.open(io.BytesIO(body)).size), (200, (20, 40)))

    def test_bad_sizes_are_named(self):
        for text in ("0", "-1", "big", "4096", "1e3", "", "٣", "9" * 5000):
            with self.subTest(text=text[:10]):
                body, status, _ = call(make_photo.photo(), {"size": text})
                self.assertEqual(status, 400)
                self.assertIn("from 1 to 2048", body["error"])

    def test_what_is_no_picture_is_refused(self):
        self.assertEqual(call(b"")[1], 400)
        body, status, _ = call(b"%PDF-1.7 not a picture")
        self.assertEqual(status, 415)
        self.assertIn("JPEG", body["error"])

    def test_a_cut_photo_is_damaged(self):
        photo = make_photo.photo()
        body, status, _ = call(photo[: len(photo) // 3])
        self.assertEqual(status, 422)
        self.assertIn("damaged", body["error"])

    def test_a_picture_of_too_many_pixels_is_refused_unread(self):
        for side in (8_000, 30_000):
            with self.subTest(side=side):
                huge = bytearray(encoded(Image.new("RGB", (1, 1))))
                # The size in a PNG's first chunk, with the checksum after it made anew.
                huge[16:24] = struct.pack(">II", side, side)
                huge[29:33] = struct.pack(">I", zlib.crc32(bytes(huge[12:29])))
                self.assertEqual(call(bytes(huge))[1], 413)

    def test_other_methods_are_refused(self):
        _, status, headers = call(b"", method="GET")
        self.assertEqual((status, headers["Allow"]), (405, "POST, PUT"))


if __name__ == "__main__":
    unittest.main()
