"""Named steps: each runs where it is written, and says how it went."""

import sys


class Steps:
    def __init__(self):
        self.failed = 0

    def __call__(self, name):
        def run(step):
            try:
                step()
                print("ok", name, flush=True)
            except Exception as error:
                self.failed += 1
                why = " ".join(f"{type(error).__name__} {error}".split())
                print(f"FAIL {name}: {why}", flush=True)

        return run

    def end(self):
        sys.exit(1 if self.failed else 0)


def same(got, wanted):
    if got != wanted:
        raise AssertionError(f"got {got!r}, not {wanted!r}")
