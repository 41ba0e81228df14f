import unittest
from datetime import datetime, timezone
from types import SimpleNamespace

from moon import handler, moon


class Moon(unittest.TestCase):
    def test_known_days(self):
        for date, phase, tides in [
            ("2026-11-24", "full moon", "spring"),
            ("2026-11-09", "new moon", "spring"),
            ("2026-11-17", "first quarter", "neap"),
            ("2024-04-08", "new moon", "spring"),
        ]:
            told = moon(datetime.fromisoformat(date).replace(tzinfo=timezone.utc))
            self.assertEqual((told["phase"], told["tides"]), (phase, tides), date)

    def test_what_is_no_day_is_refused(self):
        for body in [b"{", b"[]", b'{"date": 7}', b'{"date": "today"}']:
            answer, status = handler(SimpleNamespace(body=body), None)
            self.assertEqual(status, 400)
            self.assertIn("2026-11-24", answer["error"])


if __name__ == "__main__":
    unittest.main()
