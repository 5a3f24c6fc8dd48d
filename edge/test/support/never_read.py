"""Clients that ask for a stream and never read a byte of it.

Usage: never_read.py URL COUNT API_KEY BODY. Stays until its standard input ends. Segments are as
small as on a network: loopback has large ones, for which Linux holds megabytes a connection.
"""
import socket
import sys
from urllib.parse import urlsplit

url, count, key, body = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4].encode()
target = urlsplit(url)
request = (
    f"POST /v1/chat/completions HTTP/1.1\r\nhost: {target.netloc}\r\n"
    f"authorization: Bearer {key}\r\ncontent-type: application/json\r\n"
    f"content-length: {len(body)}\r\n\r\n"
).encode() + body
clients = []
for _ in range(count):
    client = socket.socket()
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect((target.hostname, target.port))
    client.sendall(request)
    clients.append(client)
sys.stdin.read()
