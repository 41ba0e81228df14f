"""The client's side of RFC 6455, as little as the tests need."""

import base64
import hashlib
import os


class Socket:
    def __init__(self, client, status, protocol):
        self.client = client
        self.status = status
        self.protocol = protocol

    @classmethod
    def open(cls, client, path, tag, protocols=None):
        key = base64.b64encode(os.urandom(16)).decode()
        headers = [("Upgrade", "websocket"), ("Connection", "keep-alive, Upgrade"),
                   ("Sec-WebSocket-Version", "13"), ("Sec-WebSocket-Key", key)]
        if protocols:
            headers.append(("Sec-WebSocket-Protocol", protocols))
        client.send("GET", path, tag=tag, headers=headers)
        status, fields = client.head()
        known = dict(fields)
        if status == 101:
            guid = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
            proof = base64.b64encode(hashlib.sha1((key + guid).encode()).digest()).decode()
            assert known["sec-websocket-accept"] == proof, known
        return cls(client, status, known.get("sec-websocket-protocol"))

    def send(self, opcode, payload, final=True):
        mask = os.urandom(4)
        size = len(payload)
        head = bytes([(0x80 if final else 0) | opcode])
        if size < 126:
            head += bytes([0x80 | size])
        elif size < 65536:
            head += b"\xfe" + size.to_bytes(2, "big")
        else:
            head += b"\xff" + size.to_bytes(8, "big")
        masked = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
        self.client.sock.sendall(head + mask + masked)

    def take(self, size):
        while len(self.client.buf) < size:
            assert self.client.more(), "the connection ended"
        data, self.client.buf = self.client.buf[:size], self.client.buf[size:]
        return data

    def receive(self):
        first, size = self.take(2)
        assert first & 0xF0 == 0x80 and size < 128, (first, size)
        if size == 126:
            size = int.from_bytes(self.take(2), "big")
        elif size == 127:
            size = int.from_bytes(self.take(8), "big")
        return first & 0x0F, self.take(size)
