"""The store: blobs, layers, snapshots, cache records and images on disk, shared by several processes at once.

`builder.store.store.Store` hands everything out.

What it promises: a file never stands half-written under a final name; blobs are on the disk before their name exists, and
are verified when read; image names survive a power cut once `tag` has returned; what a power cut may have torn (folders
and indexes not yet synced) is dropped at the next open; what a killed process left is removed at the next open; a store of
a newer version is refused untouched; what a living process has looked up or put is not removed by others, nor what an image
needs.

What it does not protect against: whoever can write into the store's folder (same user, root) can change what it holds;
snapshots are folders and are not verified when used; two machines that share one store over a network file system.
"""
