"""Whether an installed wheel computes: `python tools/wheel_check.py`, which the builders of wheels run.

It needs what the client needs, no other file and no server: keys are made, vectors encrypted, distances computed as the
service does it, and read.
"""

import json
import sys

import numpy as np

from xtrace_core.arithmetic import describe
from xtrace_core.schemes.registry import SchemeRegistry
from xtrace_sdk.x_vec.schemes.paillier.lookup import PaillierLookupClient


def main() -> None:
    """Says with what was computed; ends with a traceback where a distance is wrong."""
    client = PaillierLookupClient.generate(8, 256, insecure_allow_weak_parameters=True)
    vectors = np.array([[1, 0, 1, 0, 1, 0, 1, 0], [1, 1, 1, 1, 0, 0, 0, 0]], dtype=np.uint8)
    batch, query = client.encrypt_vec_batch(vectors), client.encrypt_query(vectors[0])
    evaluation = SchemeRegistry().evaluation(client.type, json.dumps(client.public_key()))
    answers = evaluation.evaluate(batch.rows[:, 0], [query.ciphertexts])
    distances = client.decode_hamming_client_batch(answers[:, None], batch.nonces, query).tolist()
    assert distances == [0, 4], distances
    sys.stdout.write(f"computed with {describe()}\n")


if __name__ == "__main__":
    main()
