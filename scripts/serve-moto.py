"""moto's server for the object storage test, with one request at a time.

By itself it answers requests in threads and checks a request's condition before it acts, so that under load two writers can both win; a store that
keeps conditions is what is needed here. usage: serve-moto.py -p PORT
"""
import argparse
import io
import threading

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import run_simple

LOCK = threading.Lock()


class OneAtATime:
    def __init__(self, app):
        self.app = app

    def __call__(self, environ, start_response):
        # A body that comes slowly keeps nobody else waiting.
        length = int(environ.get("CONTENT_LENGTH") or 0)
        environ["wsgi.input"] = io.BytesIO(environ["wsgi.input"].read(length))
        with LOCK:
            return list(self.app(environ, start_response))


parser = argparse.ArgumentParser()
parser.add_argument("-p", "--port", type=int, required=True)
run_simple("127.0.0.1", parser.parse_args().port, OneAtATime(DomainDispatcherApplication(create_backend_app)), threaded=True)
