"""What is remembered of the network: rows that count as long as their blobs are there."""

from __future__ import annotations

import os
from pathlib import Path

from builder.oci.digest import Digest
from builder.store.fetched import Checkout, Download
from builder.store.store import Store


def test_downloads_and_checkouts_come_back_until_a_blob_is_gone(tmp_path: Path) -> None:
    with Store(str(tmp_path / "store")) as store:
        digest, _ = store.put_blob(b"data")
        other, _ = store.put_blob(b"")
        download = Download(digest, "ü.txt", 'W/"1"', "Mon, 06 Jul 2020 10:11:12 GMT", 1594030272 * 10**9)
        assert (store.download("k"), store.checkout("k")) == (None, None)
        store.put_download("k", Download(other, "", "", "", 0))
        store.put_download("k", download)
        store.put_checkout("k", Checkout(other, digest))
    with Store(str(tmp_path / "store")) as store:
        assert store.download("k") == download
        assert store.checkout("k") == Checkout(other, digest)
        assert (store.download("other"), store.checkout("other")) == (None, None)
        os.unlink(store.blob_path(digest))
        assert (store.download("k"), store.checkout("k")) == (None, None)
        store.put_download("k", Download(Digest.of(b""), "n", "", "", 0))
        assert store.download("k") == Download(Digest.of(b""), "n", "", "", 0)
