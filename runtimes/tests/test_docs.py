"""The examples of the pages about handlers load, and answer without failing."""

import os
import re
import unittest

from hosts import RUNTIMES, Host, Java, Php, Ruby

PAGES = os.path.join(os.path.dirname(RUNTIMES), "docs/handlers")


class Examples(unittest.TestCase):
    def check(self, language, at_least):
        with open(os.path.join(PAGES, language.name + ".md"), encoding="utf-8") as file:
            blocks = re.findall(r"^```%s\n(.*?)^```" % language.name, file.read(), re.MULTILINE | re.DOTALL)
        # What needs a gem cannot be loaded here.
        blocks = [block for block in blocks if "sinatra" not in block]
        self.assertGreaterEqual(len(blocks), at_least)
        for block in blocks:
            # A page of PHP's that handles nothing is a script.
            script = language is Php and "handler" not in block.lower()
            entry = "index.php" if script else language.entry
            files = {entry.replace(".class", ".java"): block}
            with Host(language, files, entry) as host:
                answer = host.call("/", b"")
                self.assertLess(answer.status, 500, "%s\n%s" % (block, host.log()))

    def test_ruby(self):
        self.check(Ruby, 4)

    def test_php(self):
        self.check(Php, 4)

    def test_java(self):
        self.check(Java, 2)
