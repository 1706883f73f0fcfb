"""The OCI image model: digests, descriptors, references, platforms, config and manifest. Pure."""
