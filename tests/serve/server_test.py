#!/usr/bin/env python3
"""`selvage serve` from outside, with nothing but Python's own library: signals, TLS, tokens, limits.

  tests/serve/server_test.py PROGRAM DEPS
"""

import concurrent.futures
import http.client
import json
import pathlib
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import unittest

PROGRAM, DEPS = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2]).resolve()
SIGN = DEPS / "data/opencv/scenetext01.jpg"
PATIENCE_S = 60
TOKEN = "0123456789abcdef"


class Server:
    """A server on free ports of this machine."""

    def __init__(self, models, *options):
        self.process = subprocess.Popen(
            [PROGRAM, "serve", "--models", models, "--http-port", "0", "--grpc-port", "0", *map(str, options)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.ending = False
        self.ready = self.process.stdout.readline()
        found = re.match(r"ready: https?://127\.0\.0\.1:(\d+) grpc://127\.0\.0\.1:(\d+) models=\d+\n", self.ready)
        if not found:
            self.process.kill()
            raise AssertionError(f"not ready: {self.ready}{self.process.stderr.read()}")
        self.http, self.grpc = int(found[1]), int(found[2])

    def connect(self, tls=None):
        if tls:
            return http.client.HTTPSConnection("127.0.0.1", self.http, timeout=PATIENCE_S, context=tls)
        return http.client.HTTPConnection("127.0.0.1", self.http, timeout=PATIENCE_S)

    def raw(self, data, patience=20):
        """All that comes back for these bytes until the server closes."""
        with socket.create_connection(("127.0.0.1", self.http), timeout=patience) as connection:
            connection.sendall(data)
            answer = b""
            while piece := connection.recv(1 << 16):
                answer += piece
            return answer

    def resident_bytes(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) * 1024

    def descriptors(self):
        return len(list(pathlib.Path(f"/proc/{self.process.pid}/fd").iterdir()))

    def terminate(self):
        self.ending = True
        self.process.send_signal(signal.SIGTERM)

    def end(self):
        """SIGTERM, if that was not sent; the exit code."""
        if not self.ending:
            self.terminate()
        try:
            return self.process.wait(timeout=PATIENCE_S)
        finally:
            self.process.kill()
            self.process.wait()
            self.process.stdout.close()
            self.process.stderr.close()


def ask(connection, method, path, body=None, headers=None):
    """Status and body."""
    connection.request(method, path, body, headers or {})
    reply = connection.getresponse()
    return reply.status, reply.read()


class Case(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def serve(self, *options, models=None):
        server = Server(models or DEPS / "models", *options)
        self.addCleanup(server.end)
        return server

    def detector(self, *options):
        """A server of one small model; what a request takes."""
        return self.serve("--model-control", "explicit", "--load-model", "blazeface-front", *options)


class Predict(Case):
    def test_a_chain_of_models_reads_a_sign(self):
        server = self.serve("--model-control", "explicit", "--load-model", "ppocr")
        connection = server.connect()
        status, body = ask(connection, "POST", "/v1/models/ppocr:predict", SIGN.read_bytes())
        self.assertEqual(status, 200, body)
        regions = json.loads(body)["predictions"][0]["regions"]
        self.assertTrue(any(region["text"] for region in regions), body)
        status, body = ask(connection, "POST", "/v2/models/ppocr/infer", b'{"inputs":[]}')
        self.assertEqual(status, 400, body)
        self.assertIn(":predict", json.loads(body)["error"])
        status, body = ask(connection, "GET", "/v2/models/ppocr")
        self.assertEqual(json.loads(body)["platform"], "ensemble")


class Ending(Case):
    def test_sigterm_lets_requests_end_and_refuses_new_ones(self):
        server = self.serve("--model-control", "explicit", "--load-model", "ppocr-det", "--workers", "1")
        picture = SIGN.read_bytes()
        waiting = server.connect()
        self.assertEqual(ask(waiting, "GET", "/v2/health/ready")[0], 200)
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            calls = [pool.submit(lambda: ask(server.connect(), "POST", "/v1/models/ppocr-det:predict", picture))
                     for _ in range(8)]
            self.wait_until(lambda: self.pending(server) >= 4)
            server.terminate()
            self.wait_until(lambda: ask(waiting, "GET", "/v2/health/ready")[0] == 503)
            status, body = ask(waiting, "POST", "/v1/models/ppocr-det:predict", picture)
            self.assertEqual(status, 503, body)
            # On a busy machine some of the eight come after the signal.
            statuses = [call.result()[0] for call in calls]
            self.assertLessEqual(set(statuses), {200, 503})
            self.assertGreaterEqual(statuses.count(200), 4)
        self.assertEqual(server.end(), 0)

    def pending(self, server):
        _, page = ask(server.connect(), "GET", "/metrics")
        return int(re.search(rb"nv_inference_pending_request_count\{[^}]*\} (\d+)", page)[1])

    def wait_until(self, condition):
        end = time.monotonic() + PATIENCE_S
        while not condition():
            self.assertLess(time.monotonic(), end, "never true")
            time.sleep(0.01)

    def test_a_second_signal_ends_at_once(self):
        server = self.detector("--drain-seconds", str(2 * PATIENCE_S))
        with socket.create_connection(("127.0.0.1", server.http)) as connection:
            # The interim answer says that the request has begun: a connection without one is closed at once.
            connection.sendall(b"POST /v2/models/x/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n"
                               b"Expect: 100-continue\r\n\r\n")
            self.assertIn(b"100 Continue", connection.recv(1024))
            server.terminate()
            self.assertTrue(any("draining" in line for line in server.process.stderr))
            server.terminate()
            self.assertNotEqual(server.process.wait(timeout=PATIENCE_S), 0)

    def test_sigterm_while_models_load_is_not_called_ready(self):
        model = self.folder / "slow"
        shutil.copytree(DEPS / "models/blazeface-front", model)
        (model / "config.pbtxt").write_text(
            "max_batch_size: 0 model_warmup [{ name: 'w' batch_size: 1 count: 1000 inputs { key: 'input:0' value "
            "{ data_type: TYPE_FP32 dims: [1, 128, 128, 3] zero_data: true } } }]")
        process = subprocess.Popen(
            [PROGRAM, "serve", "--models", self.folder, "--http-port", "0", "--grpc-port", "0"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=PATIENCE_S)
        self.assertEqual((out, process.returncode), ("", 0))

    def test_two_servers_cannot_have_one_port(self):
        server = self.detector()
        done = subprocess.run([PROGRAM, "serve", "--models", DEPS / "models", "--http-port", str(server.http)],
                              capture_output=True, text=True, timeout=PATIENCE_S)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn(str(server.http), done.stderr)


    def test_says_which_option_is_wrong(self):
        taken = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(taken.close)
        port = str(taken.getsockname()[1])
        for options, message in (
                (["--models", "/nowhere"], "--models: there is no folder '/nowhere'"),
                (["--models", self.folder, "--token-file", "/nowhere"], "--token-file: there is no file '/nowhere'"),
                (["--models", self.folder, "--http-port", port], "--http-port"),
                (["--models", self.folder, "--http-port", "0", "--grpc-port", port], "--grpc-port"),
                (["--models", self.folder, "--http-port", "70000"], "'70000' is not a whole number from 0 to 65535"),
                (["--models", self.folder, "--max-body-bytes", "-1"], "'-1' is not a whole number"),
                (["--models", self.folder, "--max-connections", "0"], "'0' is not a whole number from 1"),
                (["--models", self.folder, "--max-queue", "-1"], "'-1' is not a whole number"),
                (["--models", self.folder, "--drain-seconds", "nan"], "'nan' is not a number"),
                (["--models", self.folder, "--poll-seconds", "3"], "needs --model-control poll"),
                (["--models", self.folder, "--model-control", "poll", "--load-model", "x"],
                 "--load-model needs --model-control explicit")):
            done = subprocess.run([PROGRAM, "serve", *options], capture_output=True, text=True, timeout=PATIENCE_S)
            self.assertNotEqual(done.returncode, 0)
            self.assertIn(message, done.stderr)

    def test_an_empty_folder_is_worth_a_word(self):
        server = self.serve(models=self.folder)
        self.assertIn("no models yet", server.process.stderr.readline())


@unittest.skipUnless(shutil.which("openssl"), "no openssl")
class Tls(Case):
    def setUp(self):
        super().setUp()
        for name in ("authority", "stranger"):
            self.openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1",
                         "-subj", f"/CN={name}", "-addext", "keyUsage=critical,keyCertSign,cRLSign",
                         "-keyout", f"{name}.key", "-out", f"{name}.pem")
        for name, authority in (("server", "authority"), ("client", "authority"), ("foreign", "stranger")):
            (self.folder / "names").write_text(
                "subjectAltName=IP:127.0.0.1\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n")
            self.openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}",
                         "-keyout", f"{name}.key", "-out", f"{name}.csr")
            self.openssl("x509", "-req", "-in", f"{name}.csr", "-CA", f"{authority}.pem", "-CAkey", f"{authority}.key",
                         "-CAcreateserial", "-days", "1", "-extfile", "names", "-out", f"{name}.pem")

    def openssl(self, *arguments):
        subprocess.run(["openssl", *arguments], cwd=self.folder, check=True, capture_output=True)

    def client(self, certificate=None):
        context = ssl.create_default_context(cafile=self.folder / "authority.pem")
        if certificate:
            context.load_cert_chain(self.folder / f"{certificate}.pem", self.folder / f"{certificate}.key")
        return context

    def secure(self, *options):
        return self.detector("--tls-cert", self.folder / "server.pem", "--tls-key", self.folder / "server.key", *options)

    def test_new_certificates_are_taken_up(self):
        """Over both protocols, and wrong ones are not."""
        server = self.secure()

        def shown(port):
            with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as plain:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
                context.set_alpn_protocols(["h2"])
                with context.wrap_socket(plain) as connection:
                    return ssl.DER_cert_to_PEM_cert(connection.getpeercert(binary_form=True))

        def is_shown(name):
            wanted = (self.folder / name).read_text()
            return all(shown(port) == wanted for port in (server.http, server.grpc))

        self.assertTrue(is_shown("server.pem"))
        shutil.copy(self.folder / "server.pem", self.folder / "former.pem")
        (self.folder / "server.pem").write_text("no certificate")
        time.sleep(2)
        self.assertTrue(is_shown("former.pem"))
        shutil.copy(self.folder / "client.key", self.folder / "server.key")
        shutil.copy(self.folder / "client.pem", self.folder / "server.pem")
        end = time.monotonic() + PATIENCE_S
        while not is_shown("client.pem") and time.monotonic() < end:
            time.sleep(0.2)
        self.assertTrue(is_shown("client.pem"))

    def test_speaks_tls_only_and_new_versions_only(self):
        server = self.secure()
        self.assertIn("https://", server.ready)
        status, body = ask(server.connect(self.client()), "GET", "/v2/health/live")
        self.assertEqual((status, json.loads(body)), (200, {"live": True}))
        with self.assertRaises((http.client.HTTPException, OSError)):
            ask(server.connect(), "GET", "/v2/health/live")
        old = self.client()
        old.minimum_version = ssl.TLSVersion.TLSv1
        old.maximum_version = ssl.TLSVersion.TLSv1_1
        with self.assertRaises(OSError):
            ask(server.connect(old), "GET", "/v2/health/live")

    def test_demands_certificates_of_its_clients(self):
        server = self.secure("--tls-client-ca", self.folder / "authority.pem")
        self.assertEqual(ask(server.connect(self.client("client")), "GET", "/v2/health/live")[0], 200)
        for wrong in (None, "foreign"):
            with self.assertRaises(OSError):
                ask(server.connect(self.client(wrong)), "GET", "/v2/health/live")

    def test_grpc_takes_the_same_certificates(self):
        server = self.secure("--tls-client-ca", self.folder / "authority.pem")
        for certificate, welcome in (("client", True), ("foreign", False), (None, False)):
            context = self.client(certificate)
            context.set_alpn_protocols(["h2"])
            with self.subTest(certificate):
                self.assertEqual(self.greets(context, server.grpc), welcome)

    def greets(self, context, port):
        """Whether an HTTP/2 server answers with its settings."""
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as plain:
                with context.wrap_socket(plain, server_hostname="127.0.0.1") as connection:
                    connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5))
                    return connection.recv(9)[3:4] == b"\x04"
        except OSError:
            return False

    def test_says_what_is_wrong_with_a_certificate(self):
        (self.folder / "server.pem").write_text("nonsense")
        done = subprocess.run(
            [PROGRAM, "serve", "--models", DEPS / "models", "--http-port", "0", "--grpc-port", "0", "--tls-cert",
             self.folder / "server.pem", "--tls-key", self.folder / "server.key"],
            capture_output=True, text=True, timeout=PATIENCE_S)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("server.pem' holds no certificate", done.stderr)


class Access(Case):
    def test_tokens_and_the_access_log(self):
        tokens, log = self.folder / "tokens", self.folder / "access.log"
        tokens.write_text(TOKEN + "\n")
        server = self.detector("--token-file", tokens, "--access-log", log)
        connection = server.connect()
        self.assertEqual(ask(connection, "GET", "/v2/health/ready")[0], 200)
        self.assertEqual(ask(connection, "GET", "/v2/models")[0], 401)
        self.assertEqual(ask(connection, "GET", "/v2/models", headers={"Authorization": "Bearer wrong"})[0], 401)
        right = {"Authorization": "Bearer " + TOKEN}
        self.assertEqual(ask(connection, "GET", "/v2/models", headers=right)[0], 200)
        self.assertEqual(ask(connection, "GET", "/v2/no%22where", headers=right)[0], 404)
        connection.close()
        self.assertEqual(server.end(), 0)
        lines = log.read_text().splitlines()
        self.assertEqual([re.search(r'"GET (\S+)[^"]*" (\d+)', line).groups() for line in lines],
                         [("/v2/health/ready", "200"), ("/v2/models", "401"), ("/v2/models", "401"),
                          ("/v2/models", "200"), ("/v2/no%22where", "404")])
        self.assertNotIn(TOKEN, log.read_text())


class Limits(Case):
    def status(self, answer):
        return int(answer.split(b" ", 2)[1])

    def test_headers_bodies_and_framing(self):
        server = self.detector("--max-body-bytes", 100_000)
        post = b"POST /v2/models/blazeface-front/infer HTTP/1.1\r\nHost: x\r\n"
        close = b"Connection: close\r\n"
        for name, data, status in (
                ("a huge header", b"GET /v2 HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 100_000 + b"\r\n\r\n", 431),
                ("a huge target", b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 431),
                ("a body that is promised too large", post + b"Content-Length: 100001\r\n\r\n", 413),
                ("a length that is none", post + b"Content-Length: -1\r\n\r\n", 400),
                ("two lengths", post + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}", 400),
                ("a length and chunks", post + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
                ("chunks without end", post + b"Transfer-Encoding: chunked\r\n\r\n" + b"4000\r\n" + b" " * 0x4000 + b"\r\n"
                 + (b"4000\r\n" + b" " * 0x4000 + b"\r\n") * 8, 413),
                ("chunks", post + close + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", 400),
                ("no HTTP", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400)):
            with self.subTest(name):
                self.assertEqual(self.status(server.raw(data)), status)

    def test_a_body_shorter_than_promised_is_dropped_with_its_connection(self):
        server = self.detector()
        with socket.create_connection(("127.0.0.1", server.http), timeout=PATIENCE_S) as connection:
            connection.sendall(b"POST /v2/models/x/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{}")
            connection.shutdown(socket.SHUT_WR)
            self.assertEqual(connection.recv(100), b"")
        self.assertEqual(ask(server.connect(), "GET", "/v2/health/live")[0], 200)

    def test_slow_senders_do_not_keep_others_waiting(self):
        server = self.detector()
        slow = [socket.create_connection(("127.0.0.1", server.http)) for _ in range(200)]
        for connection in slow:
            connection.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost:")
        start = time.monotonic()
        self.assertEqual(ask(server.connect(), "GET", "/v2/health/live")[0], 200)
        self.assertLess(time.monotonic() - start, 5)
        # Ten seconds are all that a header may take, however steadily it drips.
        slow[0].settimeout(30)
        answer = slow[0].recv(100)
        self.assertIn(answer[:12], (b"", b"HTTP/1.1 408"))
        for connection in slow:
            connection.close()

    def test_ten_thousand_connections_leave_nothing_behind(self):
        server = self.detector()
        request = b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n"
        before = None
        for part in range(20):
            connections = [socket.create_connection(("127.0.0.1", server.http)) for _ in range(500)]
            for connection in connections:
                connection.sendall(request)
            for connection in connections:
                self.assertTrue(connection.recv(100).startswith(b"HTTP/1.1 200"))
                connection.close()
            if part == 4:
                before = server.resident_bytes()
        self.assertLess(server.resident_bytes() - before, 2 << 20)
        end = time.monotonic() + PATIENCE_S
        while server.descriptors() > 64:
            self.assertLess(time.monotonic(), end, f"{server.descriptors()} descriptors")
            time.sleep(0.1)


class Footprint(Case):
    def test_an_idle_server_is_small_and_ready_soon(self):
        empty = self.folder / "models"
        empty.mkdir()
        server = self.serve(models=empty)
        self.assertLess(server.resident_bytes(), 25 << 20)


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]], warnings="ignore")
