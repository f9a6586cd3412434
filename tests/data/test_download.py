import http.server
import io
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from cvx.data.download import DownloadError, check_zip, download, readable_size, unavailable

CONTENT = np.random.default_rng(0).bytes(700_000)


class _Handler(http.server.BaseHTTPRequestHandler):
    """Serves `server.content`; the server's fields make it misbehave as real ones do."""

    def do_GET(self):
        server = self.server
        server.ranges.append(self.headers.get("Range"))
        if server.status:
            self.send_error(server.status)
            return
        start, content = 0, server.content
        if server.has_ranges and self.headers.get("Range"):
            start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
            if start >= len(content):
                self.send_error(416)
                return
        self.send_response(206 if start else 200)
        if start:
            shifted = start + server.shift
            self.send_header("Content-Range", f"bytes {shifted}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start:][: server.breaks.pop(0) if server.breaks else None])

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.content, server.has_ranges, server.breaks, server.shift, server.status = CONTENT, True, [], 0, 0
    server.ranges = []
    server.url = f"http://127.0.0.1:{server.server_port}/file.bin"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_download_says_from_where_how_much_and_to_where(server, tmp_path, capsys):
    path = tmp_path / "new" / "file.bin"
    download(server.url, path)
    assert path.read_bytes() == CONTENT
    said = capsys.readouterr().err
    assert all(text in said for text in (server.url, "700 kB", str(path)))


def test_a_file_that_is_there_is_not_fetched_again(server, tmp_path, capsys):
    path = tmp_path / "file.bin"
    path.write_bytes(b"mine")
    download(server.url, path)
    assert path.read_bytes() == b"mine"
    assert server.ranges == []
    assert capsys.readouterr().err == ""


def test_a_connection_that_breaks_off_is_resumed_where_it_broke(server, tmp_path):
    server.breaks = [300_000, 200_000]
    path = tmp_path / "file.bin"
    download(server.url, path, size=len(CONTENT))
    assert path.read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=300000-", "bytes=500000-"]


def test_a_server_without_ranges_sends_everything_again(server, tmp_path):
    server.has_ranges, server.breaks = False, [300_000]
    path = tmp_path / "file.bin"
    download(server.url, path)
    assert path.read_bytes() == CONTENT


def test_a_server_that_always_breaks_off_ends_in_an_error_and_the_next_run_goes_on(server, tmp_path):
    server.breaks = [300_000, 0, 0, 0, 0]
    path = tmp_path / "file.bin"
    with pytest.raises(DownloadError, match=r"broke off.*300 kB are kept in .*file\.bin\.part"):
        download(server.url, path)
    assert not path.exists()
    server.breaks, server.ranges = [], []
    download(server.url, path)
    assert path.read_bytes() == CONTENT
    assert server.ranges == ["bytes=300000-"]


def test_an_answer_with_another_range_is_not_appended(server, tmp_path):
    (tmp_path / "file.bin.part").write_bytes(CONTENT[:1000])
    server.shift = 7
    download(server.url, tmp_path / "file.bin")
    assert (tmp_path / "file.bin").read_bytes() == CONTENT


def test_a_part_longer_than_the_servers_file_is_fetched_anew(server, tmp_path):
    (tmp_path / "file.bin.part").write_bytes(bytes(800_000))
    download(server.url, tmp_path / "file.bin")
    assert (tmp_path / "file.bin").read_bytes() == CONTENT


def test_a_file_of_another_size_is_refused_before_it_is_fetched(server, tmp_path):
    with pytest.raises(DownloadError, match=r"offers 700000 bytes, expected 5"):
        download(server.url, tmp_path / "file.bin", size=5)
    assert list(tmp_path.glob("file.bin*")) == []


def test_what_fails_its_check_is_deleted_and_said_so(server, tmp_path):
    with pytest.raises(DownloadError, match=r"no whole zip file.*deleted, run the command again"):
        download(server.url, tmp_path / "file.zip", verify=check_zip)
    assert list(tmp_path.glob("file.zip*")) == []


def test_a_whole_zip_passes_and_one_with_a_flipped_bit_is_named_with_its_member(tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.txt", "hello hello")
    path = tmp_path / "a.zip"
    path.write_bytes(buffer.getvalue())
    check_zip(path)
    path.write_bytes(buffer.getvalue().replace(b"hello hello", b"hello jello"))
    with pytest.raises(DownloadError, match=r"checksum of a\.txt"):
        check_zip(path)


def test_a_missing_page_is_an_error_that_names_the_address(server, tmp_path):
    server.status = 404
    with pytest.raises(DownloadError, match=rf"{server.url}: the server answers 404"):
        download(server.url, tmp_path / "file.bin")


def test_no_network_is_an_error_within_seconds(server, tmp_path):
    begin = time.monotonic()
    with pytest.raises(DownloadError, match="no connection"):
        download("http://192.0.2.1/file.bin", tmp_path / "file.bin")
    assert time.monotonic() - begin < 2


def test_a_server_that_falls_silent_counts_as_broken(tmp_path):
    class Silent(_Handler):
        def do_GET(self):
            threading.Event().wait(0.5)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Silent) as silent:
        thread = threading.Thread(target=silent.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        with pytest.raises(DownloadError, match="timed out"):
            download(f"http://127.0.0.1:{silent.server_port}/", tmp_path / "file.bin", timeout_s=0.1)
        silent.shutdown()
        thread.join()


def test_a_disk_too_small_is_said_before_a_byte_is_written(server, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000})())
    with pytest.raises(DownloadError, match=r"needs 700 kB, but .* has 1 kB free"):
        download(server.url, tmp_path / "file.bin")
    assert not (tmp_path / "file.bin.part").exists()


def test_several_callers_of_one_file_fetch_it_once(server, tmp_path):
    path = tmp_path / "file.bin"
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: download(server.url, path), range(4)))
    assert path.read_bytes() == CONTENT
    assert len(server.ranges) == 1


@pytest.mark.parametrize(
    ("num_bytes", "text"),
    [(999, "999 bytes"), (1000, "1 kB"), (248_100_043, "248 MB"), (1_230_000_000, "1.23 GB")],
)
def test_sizes_are_written_as_people_say_them(num_bytes, text):
    assert readable_size(num_bytes) == text


def test_the_error_for_missing_data_names_folder_reason_and_every_way(tmp_path):
    error = unavailable("birds", tmp_path, "no connection", ["put a.zip there", "or b"])
    assert isinstance(error, FileNotFoundError)
    assert [text in str(error) for text in ("birds", str(tmp_path), "no connection", "put a.zip there", "or b")] == [
        True
    ] * 5
