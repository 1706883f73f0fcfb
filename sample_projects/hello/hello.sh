#!/bin/sh
# Prints the greeting, the words that the build sorted, and who and where it is.
echo "$GREETING."
echo "$(cat count) words: $(tr '\n' ' ' < all.txt)"
echo "running as $(id -un) in $(pwd)"
