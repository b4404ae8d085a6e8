"""Answers each request with the number of orders so far, of which it makes one
more in the database, the number of visits, which the cache counts, and what the
greeting is now."""

import http.server
import os

import psycopg2
import redis

cache = redis.Redis(os.environ["CACHE"])


def order():
    with psycopg2.connect(os.environ["DATABASE"]) as db, db.cursor() as rows:
        rows.execute("CREATE TABLE IF NOT EXISTS orders (id serial PRIMARY KEY)")
        rows.execute("INSERT INTO orders DEFAULT VALUES")
        rows.execute("SELECT count(*) FROM orders")
        return rows.fetchone()[0]


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/health":
            cache.ping()
            answer = "ok"
        else:
            greeting = open("/app/greeting").read().strip()
            answer = f"{greeting}: order {order()}, visit {cache.incr('visits')}"
        self.send_response(200)
        self.end_headers()
        self.wfile.write(answer.encode())


http.server.ThreadingHTTPServer(("", 8000), Handler).serve_forever()
