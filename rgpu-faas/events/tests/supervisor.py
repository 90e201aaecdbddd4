#!/usr/bin/env python3
"""Records what OSCAR's supervisor makes of bodies, for supervisor.rs to compare with.

    PYTHONPATH=FAAS_SUPERVISOR_CHECKOUT python3 supervisor.py > supervisor.json

Recorded with grycap/faas-supervisor as of 2025-07-28.
"""

import base64
import json
import logging
import os
import tempfile
from unittest import mock

from faassupervisor.events import parse_event

logging.disable(logging.CRITICAL)


def record(source, key, bucket="images"):
    return {"eventSource": source, "eventTime": "2018-06-29T10:23:44Z",
            "s3": {"object": {"key": key}, "bucket": {"name": bucket, "arn": "arn:aws:s3:::" + bucket}}}


EVENTS = [
    {"Key": "images/in/a b+.jpg", "Records": [record("minio:s3", "in%2Fa+b%2B.jpg")]},
    {"Records": [record("aws:s3", "in/dog.jpg", "darknet")]},
    {"Records": [record("aws:s3", "%E2%82%AC%0A%2e%2e%252e", "darknet")]},
    {"Key": "/space/files/f.txt",
     "Records": [{"objectKey": "f.txt", "eventSource": "OneTrigger", "eventTime": "2019-02-07T09:51:04Z"}]},
    {"event_type": "close", "payload": {"name": "dataset", "scope": "user.jdoe"}},
    {"Records": [{"eventSource": "narnia"}]},
    {"Records": []},
    {"Records": None},
    {"x": [1, 2.5, "ü"], "event_": 1},
]
TEXTS = ["aXQgd29ya3Mh", "aXQgd2\n9ya3\r\nMh\n", "/x==", "", "QUJD QUJD", "abcd", "e30=", '{"a": 1}',
         "12345678", "hello", "aXQ"]


def bodies():
    for event in EVENTS:
        text = json.dumps(event)
        yield text
        yield json.dumps({"event": event, "storage_provider": "minio.two"})
        yield json.dumps({"event": text})
        yield json.dumps({"httpMethod": "POST", "headers": {}, "body": text, "queryStringParameters": {"q": "v"}})
        delegated = json.dumps({"event": text, "storage_provider": "s3.x"})
        yield json.dumps({"httpMethod": "POST", "headers": {}, "body": delegated})
    for text in TEXTS:
        yield text
        yield json.dumps(text)
        yield json.dumps({"event": text})
        yield json.dumps({"httpMethod": "POST", "headers": {}, "body": text})


def answer(body):
    with mock.patch.dict(os.environ, {}, clear=True):
        try:
            event = parse_event(body)
            said = {"type": event.get_type()}
            if said["type"] == "UNKNOWN":
                with tempfile.TemporaryDirectory() as folder, open(event.save_event(folder), "rb") as file:
                    said["input"] = base64.b64encode(file.read()).decode()
            else:
                said["key"] = event.object_key
                said["bucket"] = getattr(event, "bucket_name", None)
                said["provider"] = getattr(event, "provider_id", None)
        except Exception as error:  # whatever it ends with
            return {"error": type(error).__name__}
        # The body is in the variable before the supervisor begins.
        if os.environ.get("EVENT", body) != body:
            said["event"] = os.environ["EVENT"]
        said["variables"] = {k: v for k, v in os.environ.items() if k.startswith("CONT_VAR_")}
        return said


lines = (json.dumps({"body": body, **answer(body)}) for body in bodies())
print("[" + ",\n".join(lines) + "]")
