"""What each language takes for a function, and what it says of what it cannot load."""

import os
import shutil
import unittest
import zipfile

from hosts import Host, Java, Php, Refused, Ruby, javac


class Forms:
    language = None

    def answers(self, expected, text, entry=None, handler=None, path="/", body=b"", more=None, **options):
        """The function answers this call with this body."""
        name = entry or self.language.entry
        files = {name.replace(".class", ".java"): text, **(more or {})}
        with Host(self.language, files, name, handler, **options) as host:
            answer = host.call(path, body)
            self.assertEqual(answer.body.decode(), expected, host.log())
            return answer

    def refused(self, expected, text, entry=None, handler=None, more=None):
        """The host ends with code 1, and its last line is this."""
        name = entry or self.language.entry
        files = {name.replace(".class", ".java"): text, **(more or {})}
        with self.assertRaises(Refused) as caught:
            Host(self.language, files, name, handler).close()
        self.assertEqual(caught.exception.code, 1, caught.exception.log)
        self.assertRegex(caught.exception.last, expected)


class RubyForms(Forms, unittest.TestCase):
    language = Ruby

    def test_methods_constants_and_classes_are_handlers(self):
        self.answers("1", "def handler = '1'\n")
        self.answers("/", "def handler(event) = event.path\n")
        self.answers("2", "Handler = ->(event, context) { '2' }\n")
        self.answers("3", "module Handler\n  def self.call(event, context) = '3'\nend\n")
        self.answers("4", "class Handler\n  def handle(event, context) = '4'\nend\n")
        self.answers("5", "def run(event) = '5'\n", handler="run")
        self.answers("6", "module Shop\n  def self.order(event) = '6'\nend\n", handler="Shop.order")
        self.answers("7", "", handler="jobs:run", more={"jobs.rb": "def run(event) = '7'\n"})
        self.answers("8", "require 'own'\ndef handler = OWN\n", more={"own.rb": "OWN = '8'\n"})

    def test_the_standard_library_and_gems_are_found(self):
        self.answers("2", "require 'set'\nrequire 'json'\nrequire 'time'\ndef handler = Set[1, 2].size.to_s\n")
        self.answers("yes", "def handler = Gem::Version.new('2') > Gem::Version.new('1') ? 'yes' : 'no'\n")
        gem = {
            "gems/specifications/greet-1.0.gemspec":
                "Gem::Specification.new { |s| s.name = 'greet'; s.version = '1.0'; s.summary = s.author = 'x' }\n",
            "gems/gems/greet-1.0/lib/greet.rb": "GREET = 'from a gem'\n",
        }
        text = "ENV['GEM_PATH'] = File.join(__dir__, 'gems')\nrequire 'greet'\ndef handler = GREET\n"
        self.answers("from a gem", text, more=gem)

    def test_rack_apps_are_called(self):
        app = """
class App
  def call(env)
    [201, { "x-two" => %w[a b], "x-old" => "c\\nd" }, [env["PATH_INFO"], env["QUERY_STRING"], env["rack.input"].read]]
  end
end
"""
        answer = self.answers("/pq=1body", app, path="/p?q=1", body=b"body")
        self.assertEqual((answer.status, answer.all("x-two"), answer.all("x-old")), (201, ["a", "b"], ["c", "d"]))
        self.answers("lambda", "App = lambda { |env| [200, {}, ['lambda']] }\n")
        self.answers("streamed", "App = ->(env) { [200, {}, ->(out) { out.write('stream'); out << 'ed'; out.close }] }\n")
        config = """
class Upcase
  def initialize(app) = @app = app
  def call(env)
    status, headers, body = @app.call(env)
    [status, headers, body.map(&:upcase)]
  end
end
use Upcase
map("/sub") { run ->(env) { [200, {}, [env["SCRIPT_NAME"], env["PATH_INFO"]]] } }
run ->(env) { [200, {}, ["config.ru"]] }
"""
        self.answers("CONFIG.RU", config, entry="config.ru")
        self.answers("/SUB/X", config, entry="config.ru", path="/sub/x")

    def test_what_cannot_be_loaded_says_where_and_why(self):
        self.refused(r"^handler\.rb:3: syntax error", "def handler(event)\n  1 +\nend\n")
        self.refused(r"^handler\.rb:2: cannot load such file -- sinatra/nope \(LoadError\); name its gem in the Gemfile$",
                     "\nrequire 'sinatra/nope'\n")
        self.refused(r"^handler\.rb:1: undefined local variable or method `nope'.*\(NameError\)$", "nope\n")
        self.refused(r"^handler\.rb defines neither `handler` nor an app, .*; it has the methods run$", "def run; end\n")
        self.refused(r"^handler\.rb has no `other`; it has the methods run$", "def run; end\n", handler="other")
        self.refused(r"takes 3 parameters, expected \(event, context\)", "def handler(a, b, c); end\n")
        self.refused(r"^own\.rb:2: boom \(RuntimeError\)$", "require 'own'\n", more={"own.rb": "\nraise 'boom'\n"})
        self.refused(r"exit \(SystemExit\)$", "exit 7\n")

    def test_an_exit_in_a_handler_ends_the_call_alone(self):
        with Host(Ruby, {"handler.rb": "def handler(event) = event.path == '/' ? exit(3) : 'here'\n"}, "handler.rb") as host:
            self.assertEqual(host.call("/").status, 500)
            self.assertEqual(host.call("/x").body, b"here")


class PhpForms(Forms, unittest.TestCase):
    language = Php

    def test_functions_closures_and_classes_are_handlers(self):
        self.answers("1", "<?php function handler() { return '1'; }")
        self.answers("/", "<?php function handler($event) { return $event->path; }")
        self.answers("2", "<?php return fn ($event, $context) => '2';")
        self.answers("3", "<?php namespace Shop; function handler($event) { return '3'; }")
        self.answers("4", "<?php class Handler { public function __invoke($event) { return '4'; } }")
        self.answers("5", "<?php function run($event) { return '5'; }", handler="run")
        self.answers("6", "<?php class Shop { public static function order($e) { return '6'; } }", handler="Shop::order")
        self.answers("7", "<?php", handler="jobs:run", more={"jobs.php": "<?php function run() { return '7'; }"})

    def test_state_is_kept_from_call_to_call(self):
        text = "<?php function handler() { static $n = 0; return (string) ++$n; }"
        with Host(Php, {"handler.php": text}, "handler.php") as host:
            self.assertEqual([host.call().body for _ in range(3)], [b"1", b"2", b"3"])

    def test_a_script_speaks_as_to_a_web_server(self):
        script = """<?php
require 'own.php';
header('X-A: 1');
setcookie('c', '2');
http_response_code(202);
echo own(), ' ', $_SERVER['PATH_INFO'], ' ', $_GET['q'], ' ', file_get_contents('php://input'), ' ',
    $_SERVER['HTTP_X_REQUEST_ID'] ?? 'no id', ' ', isset($_SERVER['HTTP_X_TIDEGATE_PATH_PREFIX']) ? 'seen' : 'hidden';
"""
        files = {"index.php": script, "own.php": "<?php function own() { return 'own'; }"}
        with Host(Php, files, "index.php") as host:
            for number in range(2):
                headers = [("X-Request-Id", str(number)), ("X-Tidegate-Path-Prefix", "/fn/x")]
                answer = host.call("/p/a?q=v", b"body", headers=headers)
                self.assertEqual(answer.body.decode(), "own /p/a v body %d hidden" % number)
                self.assertEqual((answer.status, answer.get("x-a")), (202, "1"))
                self.assertTrue(answer.get("set-cookie").startswith("c=2"))
                self.assertEqual(answer.get("content-length"), str(len(answer.body)))
                self.assertIsNone(answer.get("x-powered-by"))

    def test_a_failing_script_tells_the_log_alone(self):
        for text, logged in [
            ("<?php echo 'half'; throw new Exception('secret');", "Exception: secret"),
            ("<?php echo 'half'; nope();", "undefined function nope"),
            ("<?php echo 'half'; $a = str_repeat('x', 200 << 20);", "Allowed memory size"),
        ]:
            with Host(Php, {"index.php": text}, "index.php") as host:
                answer = host.call(headers=[("X-Request-Id", "r")])
                self.assertEqual((answer.status, answer.get("x-tidegate-outcome")), (500, "function"), answer.body)
                self.assertEqual(answer.body, b'{"error":"function failed","requestId":"r"}')
                host.await_log(logged)

    def test_files_beside_a_public_script_are_sent(self):
        files = {"index.php": "<?php echo 'script ', $_SERVER['PATH_INFO'];", "public/a.css": "body {}"}
        with Host(Php, files, "index.php") as host:
            self.assertEqual(host.call("/a.css").body, b"body {}")
            self.assertEqual(host.call("/b.css").body, b"script /b.css")

    def test_what_cannot_be_loaded_says_where_and_why(self):
        self.refused(r"^handler\.php:4: syntax error, unexpected token", "<?php\nfunction handler() {\n  return 1\n}\n")
        self.refused(r'^handler\.php:3: Class "Shop\\Order" not found; a package belongs into composer\.json$',
                     "<?php\nfunction handler() {}\n$x = new Shop\\Order();\n")
        self.refused(r"^handler\.php has no `other`, expected .*; it has the functions run$",
                     "<?php function run() {}", handler="other")
        self.refused(r"takes 3 parameters", "<?php function handler($a, $b, $c) {}")
        self.refused(r"^own\.php:2: boom$", "<?php function handler() {}\nrequire 'own.php';",
                     more={"own.php": "<?php\nthrow new Exception('boom');"})
        self.refused(r"^index\.php:2: syntax error", "<?php\necho 1 2;\n", entry="index.php")

    def test_a_handler_that_exits_or_runs_out_of_memory_is_answered_and_ends(self):
        for text, logged in [
            ("<?php function handler() { exit(0); }", "ended the process by exit()"),
            ("<?php function handler() { return str_repeat('x', 200 << 20); }", "Allowed memory size"),
        ]:
            with Host(Php, {"handler.php": text}, "handler.php") as host:
                answer = host.call()
                self.assertEqual((answer.status, answer.get("x-tidegate-outcome")), (500, "function"))
                host.await_log(logged)
                host.process.wait(10)


class JavaForms(Forms, unittest.TestCase):
    language = Java

    @staticmethod
    def handler(signature, body, imports=""):
        return "%spublic class Handler { public %s { %s } }" % (imports, signature, body)

    def test_parameters_say_what_is_wanted(self):
        self.answers("1", self.handler("static String handle()", 'return "1";'))
        self.answers("body!", self.handler("String handle(String body)", 'return body + "!";'), body=b"body")
        self.answers("4", self.handler("Object handle(byte[] body)", "return body.length;"), body=b"body")
        use = "import java.util.Map; "
        self.answers("POST /p 1", self.handler("String handle(Map<String, Object> event, Object context)",
                     'return event.get("method") + " " + event.get("path") + " " + ((Map<?, ?>) event.get("query")).get("a");', use),
                     path="/p?a=1", body=b"x")
        self.answers("tested", self.handler("String handle(Map<String, Object> event, Map<String, Object> context)",
                     'return (String) context.get("functionName");', use))
        self.answers("later", self.handler("Object handle(String body)",
                     'return java.util.concurrent.CompletableFuture.supplyAsync(() -> "later");'))

    def test_the_handler_may_be_named(self):
        text = "public class Other { String run() { return \"r\"; } static class Inner { String handle() { return \"i\"; } } }"
        self.answers("r", text, entry="Other.class", handler="Other::run")
        self.answers("i", text, entry="Other.class", handler="Other$Inner")

    def test_a_class_of_a_jar_is_found(self):
        text = "package shop; public class Order { public String handle(String body) { return \"jar\"; } }"
        with zipfile.ZipFile("/tmp/tidegate-order-%d.jar" % os.getpid(), "w") as jar:
            folder = "/tmp/tidegate-order-%d" % os.getpid()
            os.makedirs(folder)
            try:
                with open(folder + "/Order.java", "w", encoding="utf-8") as file:
                    file.write(text)
                javac(["-d", folder, folder + "/Order.java"])
                jar.write(folder + "/shop/Order.class", "shop/Order.class")
            finally:
                shutil.rmtree(folder)
        try:
            class WithJar(Java):
                @classmethod
                def command(cls, folder):
                    os.makedirs(folder + "/lib")
                    shutil.copy(jar.filename, folder + "/lib/order.jar")
                    return super().command(folder)

            with Host(WithJar, {}, "lib/order.jar", "shop.Order") as host:
                self.assertEqual(host.call().body, b"jar")
            with self.assertRaises(Refused) as caught:
                Host(WithJar, {}, "lib/order.jar").close()
            self.assertIn("name it as Class or Class::method", caught.exception.last)
        finally:
            os.unlink(jar.filename)

    def test_what_cannot_be_loaded_says_where_and_why(self):
        self.refused(r"^there is no class Nope in the bundle", self.handler("String handle()", 'return "";'), handler="Nope")
        self.refused(r"^class Handler has no method handle\(event, context\); it has run$", self.handler("void run()", ""))
        self.refused(r"it has a main: a program that serves \$PORT is the contract http$",
                     self.handler("static void main(String[] a)", ""))
        self.refused(r"^class Handler has no constructor without parameters", "public class Handler { Handler(int i) {} String handle() { return \"\"; } }")
        self.refused(r"^Handler\.java:2: java\.lang\.IllegalStateException: boom$",
                     "public class Handler { static int X;\nstatic { if (X == 0) throw new IllegalStateException(\"boom\"); }\n"
                     "String handle() { return \"\"; } }")
        self.refused(r"takes a int, expected Event, Map, String", self.handler("String handle(int i)", 'return "";'))

    def test_a_missing_class_is_named(self):
        class Without(Java):
            @classmethod
            def command(cls, folder):
                command = super().command(folder)
                os.unlink(folder + "/Gone.class")
                return command

        files = {"Handler.java": "public class Handler { Gone gone = new Gone(); String handle() { return \"\"; } }",
                 "Gone.java": "public class Gone {}"}
        with self.assertRaises(Refused) as caught:
            Host(Without, files, "Handler.class").close()
        self.assertEqual(caught.exception.last,
                         "Handler.java:1: class Gone is missing; put its jar in lib/, or its artifact in the pom.xml")


