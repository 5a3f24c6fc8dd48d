"""Clients that connect, send one text or nothing, and never read a byte.

Usage: silent_clients.py URL COUNT TEXT. Stays until its standard input ends. Segments are as small
as on a network: loopback has large ones, for which Linux holds megabytes a connection.
"""
import socket
import sys
from urllib.parse import urlsplit

url, count, text = sys.argv[1], int(sys.argv[2]), sys.argv[3].encode()
target = urlsplit(url)
clients = []
for _ in range(count):
    client = socket.socket()
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect((target.hostname, target.port))
    client.sendall(text)
    clients.append(client)
sys.stdin.read()
