"""Addresses are fetched once, when the task allows it, within limits, and never from a private network."""

import http.server
import threading

import pytest

from loop_runner import inputs
from loop_runner.errors import ConfigError
from loop_runner.inputs import urls, web
from tests.support import papers

PAGES = {
    "/a.txt": ("text/plain", b"plain words\n"),
    "/doc": ("application/pdf", papers.pdf(["one", "two"])),
    "/page": ("text/html; charset=utf-8", b"<h1>Top</h1><p>words</p>"),
    "/big": ("text/plain", b"x" * 300_000),
}


class _Site(http.server.ThreadingHTTPServer):
    def __init__(self, *args):
        super().__init__(*args)
        self.requests: list[str] = []
        self.over = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: _Site

    def do_GET(self):
        self.server.requests.append(self.path)
        if self.path == "/loop":
            self.send_response(302)
            self.send_header("Location", "/loop")
            self.end_headers()
        elif self.path == "/moved":
            self.send_response(301)
            self.send_header("Location", "/a.txt")
            self.end_headers()
        elif self.path == "/file":
            self.send_response(302)
            self.send_header("Location", "file:///etc/passwd")
            self.end_headers()
        elif self.path in PAGES:
            kind, data = PAGES[self.path]
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.end_headers()
            self.wfile.write(data)
        elif self.path == "/slow":
            self.send_response(200)
            self.end_headers()
            self.server.over.wait(20)
        else:
            self.send_error(404)

    def log_message(self, *_):
        pass


@pytest.fixture
def site():
    server = _Site(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.over.set()
    server.shutdown()
    thread.join()
    server.server_close()


def fetcher(tmp_path, **more):
    return inputs.Fetcher(tmp_path / "cache", allows_private=True, **more)


def test_pages_become_texts_with_their_address(site, tmp_path, converter):
    fetch = fetcher(tmp_path)
    specs = [{"url": f"{site.url}{path}"} for path in ("/moved", "/doc", "/page")]
    result = inputs.load(specs, tmp_path, converter=converter, fetch=fetch)
    assert [text.name for text in result.texts] == ["127.0.0.1/a.txt", "127.0.0.1/doc", "127.0.0.1/page"]
    assert [papers.origin(text).kind for text in result.texts] == ["text", "pdf", "html"]
    assert papers.origin(result.texts[1]).places == ((1, "page 1"), (2, "page 2"))
    assert papers.origin(result.texts[1]).url == f"{site.url}/doc"
    assert sorted(fetch.files.values()) == sorted(PAGES[path][1] for path in ("/a.txt", "/doc", "/page"))


def test_a_resume_reads_the_bytes_that_the_run_folder_has_and_asks_nobody(site, tmp_path, converter):
    import shutil

    fetch = fetcher(tmp_path)
    result = inputs.load([f"{site.url}/a.txt", f"{site.url}/doc"], tmp_path, converter=converter, fetch=fetch)
    requests = list(site.requests)
    shutil.rmtree(tmp_path / "cache")
    again = inputs.restore(result, inputs.Converter(tmp_path / "new"), tmp_path / "new", fetch.files.get)
    assert inputs.changed(again) == ()
    assert site.requests == requests


def test_without_leave_no_address_is_fetched(site, tmp_path, converter):
    with pytest.raises(ConfigError, match=r"is not fetched") as caught:
        inputs.load([f"{site.url}/a.txt"], tmp_path, converter=converter)
    assert "inputs.urls=true" in caught.value.hint
    assert site.requests == []


def test_this_machine_is_not_asked(site, tmp_path):
    for host in ("127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "0.0.0.0", "2130706433"):
        with pytest.raises(ConfigError, match="an address of a private network"):
            inputs.Fetcher(tmp_path)(f"http://{host}:{site.server_port}/a.txt")
    assert site.requests == []


@pytest.mark.parametrize(
    ("address", "is_public"),
    [
        ("8.8.8.8", True),
        ("2606:4700::1", True),
        ("10.0.0.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("::1", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("::ffff:10.0.0.1", False),
        ("2002:0a00:0001::", False),
        ("64:ff9b::a00:1", False),
        ("224.0.0.1", False),
    ],
)
def test_what_counts_as_public(address, is_public):
    assert web.is_public(address) == is_public


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/nothing", "the server answered 404"),
        ("/loop", "it redirects more than 5 times"),
        ("/file", "is not a web address"),
        ("/big", "too large: more than 100,000 bytes"),
        ("/slow", "it took"),
    ],
)
def test_what_cannot_be_fetched_says_why(site, tmp_path, path, reason):
    with pytest.raises(ConfigError, match=reason):
        fetcher(tmp_path, max_bytes=100_000, seconds=2.0)(f"{site.url}{path}")
    assert not urls.fetched_folder(tmp_path / "cache").exists()
