"""What the description of the API says in words alone, for schemathesis.

JSON Schema cannot say that two lines of an order have different SKUs, that a key belongs to one order, that a
time lies within the last 30 days, or which passwords are tried first. Valid requests are made so here; those
that are meant to be invalid are sent as they are.
"""

import datetime
import uuid

import schemathesis


def account(case):
    """A password of the generated length that nobody guesses: four different characters are the least."""
    password = case.body["password"]
    case.body["password"] = ("q7Zx" + password)[: len(password)]


def order(case):
    if "Idempotency-Key" in case.headers:
        case.headers["Idempotency-Key"] = str(uuid.uuid4())
    lines = {line["sku"]: line for line in case.body["lines"]}
    case.body["lines"] = list(lines.values())


def throttle(case):
    """It limits or it grants: a duty below 1, or milliseconds."""
    if case.body.get("extra_ms", 0) > 0:
        case.body["duty"] = 1
    else:
        case.body["duty"] = min(case.body.get("duty", 1), 0.5)


def change(case):
    payload = case.body["payload"]
    if payload.get("timestamp") is not None:
        payload["timestamp"] = datetime.datetime.now(datetime.timezone.utc).isoformat()


WORDS = {
    "POST /api/accounts": account,
    "POST /api/orders": order,
    "POST /ops/migrations/throttles": throttle,
    "POST /ops/changes": change,
}


@schemathesis.hook
def before_call(context, case, kwargs):
    label = case.operation.label
    if label in WORDS and case.meta is not None and case.meta.generation.mode.is_positive:
        WORDS[label](case)
