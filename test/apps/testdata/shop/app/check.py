"""Fails unless the server beside it answers."""

import urllib.request

urllib.request.urlopen("http://localhost:8000/health", timeout=50).read()
