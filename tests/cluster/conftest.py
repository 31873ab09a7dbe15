import pytest


@pytest.fixture(scope="session")
def follow_orders():
    """A step that does what its payload says, and notes that it did.

    Workers get an inner function by value: they cannot import this file.
    """

    def step(given):
        import os
        import time
        from pathlib import Path

        from bench.cluster.graph import Outcome

        orders, results = given["payload"], given["results"]
        with Path(orders["notes"]).open("a") as file:
            words = orders["name"], os.getpid(), time.monotonic(), sorted(results.items())
            file.write(" ".join(map(str, words)) + "\n")
        time.sleep(orders.get("sleep", 0))
        if orders.get("raise"):
            raise ValueError("it cannot be")
        if orders.get("busy until") and not Path(orders["busy until"]).exists():
            return Outcome("busy", reason="another does it")
        begun = Path(orders["notes"]).read_text().count(f"{orders['name']} ")
        if begun <= orders.get("killed", 0):
            return Outcome("killed", reason="its process was killed")
        if orders.get("fail"):
            return Outcome("failed", reason="no memory")
        return Outcome("done", orders["name"].upper())

    return step
