"""What the suites share: starting a language host as its own process, and speaking HTTP to it."""

import glob
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
RUNTIMES = os.path.dirname(HERE)

# A Java on a busy machine; anything else is there in a tenth.
START = 30.0


class Refused(Exception):
    """The host ended instead of listening; `code` is its exit code, `log` its standard error."""

    def __init__(self, code, log):
        super().__init__("the host ended with code %d:\n%s" % (code, log))
        self.code = code
        self.log = log

    @property
    def last(self):
        return self.log.strip().splitlines()[-1]


class Host:
    """A host with this function. `files`: by path below the bundle; compiled first where that is the language's way."""

    def __init__(self, language, files, entry, handler=None, concurrency=1, env=None):
        self.folder = tempfile.mkdtemp(prefix="tidegate-host-")
        for name, text in files.items():
            path = os.path.join(self.folder, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
        with socket.socket() as chosen:
            chosen.bind(("127.0.0.1", 0))
            self.port = chosen.getsockname()[1]
        self.log_path = os.path.join(self.folder, "host.log")
        self.out_path = os.path.join(self.folder, "host.out")
        environment = {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "PORT": str(self.port),
            "TIDEGATE_ENTRY": os.path.join(self.folder, entry),
            "TIDEGATE_CONCURRENCY": str(concurrency),
            "TIDEGATE_MAX_BODY": "100000",
            "TIDEGATE_MEMORY": str(256 << 20),
            "TIDEGATE_TIMEOUT_MS": "30000",
            "TIDEGATE_FUNCTION": "tested",
        }
        if handler:
            environment["TIDEGATE_HANDLER"] = handler
        environment.update(env or {})
        with open(self.log_path, "wb") as log, open(self.out_path, "wb") as out:
            self.process = subprocess.Popen(
                language.command(self.folder), env=environment, stdout=out, stderr=log, stdin=subprocess.DEVNULL,
                cwd=self.folder,
            )
        try:
            self._await()
        except BaseException:
            self.close()
            raise

    def _await(self):
        until = time.monotonic() + START
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                if self.process.poll() is not None:
                    raise Refused(self.process.returncode, self.log()) from None
                if time.monotonic() > until:
                    raise
                time.sleep(0.005)

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as file:
            return file.read()

    def out(self):
        with open(self.out_path, encoding="utf-8", errors="replace") as file:
            return file.read()

    def await_log(self, text):
        until = time.monotonic() + 10
        while text not in self.log():
            if time.monotonic() > until:
                raise AssertionError("no %r in the log:\n%s" % (text, self.log()))
            time.sleep(0.005)

    def connect(self):
        return Connection(self.port)

    def call(self, path="/", body=b"", method=None, headers=()):
        with self.connect() as connection:
            return connection.call(path, body, method, headers)

    def end(self):
        """Asks it to end; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Answer:
    """`complete`: whether its end was marked."""

    def __init__(self, status, fields, body, complete):
        self.status = status
        self.fields = fields
        self.body = body
        self.complete = complete

    def get(self, name):
        values = self.all(name)
        return values[0] if values else None

    def all(self, name):
        return [value for key, value in self.fields if key == name]

    @property
    def type(self):
        return self.get("content-type")


class Connection:
    """A client that sends and sees bytes, so that tests can send what no library would."""

    def __init__(self, port):
        self.sock = socket.create_connection(("127.0.0.1", port), 20)
        self.file = self.sock.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()
        self.sock.close()

    def send(self, data):
        self.sock.sendall(data)

    def call(self, path="/", body=b"", method=None, headers=()):
        method = method or ("POST" if body else "GET")
        lines = ["%s %s HTTP/1.1" % (method, path), "Host: h"]
        lines += ["%s: %s" % pair for pair in headers]
        if body:
            lines.append("Content-Length: %d" % len(body))
        self.send("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body)
        return self.answer(method)

    def answer(self, method="GET"):
        line = self.file.readline()
        while line.startswith(b"HTTP/1.1 100"):
            self.file.readline()
            line = self.file.readline()
        if not line:
            return None
        status = int(line.split()[1])
        fields = []
        for line in iter(self.file.readline, b"\r\n"):
            name, _, value = line.decode("latin-1").partition(":")
            fields.append((name.lower(), value.strip()))
        found = dict(fields)
        if method == "HEAD" or status in (204, 304):
            return Answer(status, fields, b"", True)
        if "content-length" in found:
            length = int(found["content-length"])
            body = self.file.read(length)
            return Answer(status, fields, body, len(body) == length)
        if found.get("transfer-encoding") == "chunked":
            return Answer(status, fields, *self._chunks())
        return Answer(status, fields, self.file.read(), True)

    def _chunks(self):
        parts = []
        while True:
            line = self.file.readline()
            if not line.strip():
                return b"".join(parts), False
            size = int(line, 16)
            parts.append(self.file.read(size))
            self.file.readline()
            if size == 0:
                return b"".join(parts), True


class Ruby:
    name = "ruby"
    source = "handler.rb"
    entry = "handler.rb"

    @staticmethod
    def command(_folder):
        return ["/usr/bin/ruby", "--disable=gems", os.path.join(RUNTIMES, "ruby/host.rb")]


class Php:
    name = "php"
    source = "handler.php"
    entry = "handler.php"

    @staticmethod
    def command(_folder):
        settings = ["-ddisplay_errors=stderr", "-dlog_errors=0", "-dhtml_errors=0", "-dmemory_limit=128M"]
        return ["/usr/bin/php", *settings, os.path.join(RUNTIMES, "php/host.php")]


class Java:
    name = "java"
    source = "java/Handler.java"
    entry = "Handler.class"
    _classes = None

    @classmethod
    def command(cls, folder):
        """Compiles the bundle's sources in place, as a build does."""
        sources = glob.glob(os.path.join(folder, "*.java"))
        if sources:
            javac(["-cp", cls.classes(), "-d", folder, *sources])
        flags = ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto", "-XX:-UsePerfData", "-Xmx96m"]
        path = "%s:%s/lib/*:%s" % (folder, folder, cls.classes())
        return ["/usr/bin/java", *flags, "-cp", path, "dev.tidegate.host.Main"]

    @classmethod
    def classes(cls):
        """The host's own classes, compiled once a run."""
        if cls._classes is None:
            cls._classes = tempfile.TemporaryDirectory(prefix="tidegate-java-")
            javac(["-Xlint:all", "-Werror", "-d", cls._classes.name, *glob.glob(os.path.join(RUNTIMES, "java/dev/tidegate/host/*.java"))])
        return cls._classes.name


def javac(arguments):
    subprocess.run(["javac", "-J-XX:TieredStopAtLevel=1", "-J-XX:+UseSerialGC", "--release", "11", "-encoding", "UTF-8", "-XDstringConcat=inline", *arguments], check=True)


LANGUAGES = [Ruby, Php, Java]
