"""Image references: the tables of github.com/distribution/reference (normalize_test.go, reference_test.go), and ours."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from builder.errors import UsageError
from builder.oci.digest import Digest
from builder.oci.reference import Reference

HEX = "86e0e091d0da6bde2456dbb48306f3956bbeb2eae1b5b9a43045843f69fe4aaa"
DIGEST = Digest("sha256", HEX)
REGISTRY = "a registry is a host or an address, with or without a port: registry.example, registry.example:5000, [::1]:5000"
EMPTY = "no part may be empty: look for '//' and for a '/' at its end; a variable in it may have no value"


@pytest.mark.parametrize(
    ("text", "domain", "path", "tag", "familiar"),
    [
        ("alpine", "docker.io", "library/alpine", "latest", "alpine:latest"),
        ("alpine:3.20", "docker.io", "library/alpine", "3.20", "alpine:3.20"),
        ("docker.io/alpine", "docker.io", "library/alpine", "latest", "alpine:latest"),
        ("index.docker.io/alpine", "docker.io", "library/alpine", "latest", "alpine:latest"),
        ("library/alpine", "docker.io", "library/alpine", "latest", "alpine:latest"),
        ("docker.io/library/alpine:latest", "docker.io", "library/alpine", "latest", "alpine:latest"),
        ("fooo/bar", "docker.io", "fooo/bar", "latest", "fooo/bar:latest"),
        ("index.docker.io/fooo/bar", "docker.io", "fooo/bar", "latest", "fooo/bar:latest"),
        ("other/library", "docker.io", "other/library", "latest", "other/library:latest"),
        ("library/foo/bar", "docker.io", "library/foo/bar", "latest", "library/foo/bar:latest"),
        ("store/foo/bar", "docker.io", "store/foo/bar", "latest", "store/foo/bar:latest"),
        ("test_com/foo", "docker.io", "test_com/foo", "latest", "test_com/foo:latest"),
        (
            "127.0.0.1:8000/private/moonbase",
            "127.0.0.1:8000",
            "private/moonbase",
            "latest",
            "127.0.0.1:8000/private/moonbase:latest",
        ),
        ("example.com/privatebase:1", "example.com", "privatebase", "1", "example.com/privatebase:1"),
        ("example.com:8000/a", "example.com:8000", "a", "latest", "example.com:8000/a:latest"),
        ("test-com:8080/foo", "test-com:8080", "foo", "latest", "test-com:8080/foo:latest"),
        ("xn--n3h.com:18080/foo", "xn--n3h.com:18080", "foo", "latest", "xn--n3h.com:18080/foo:latest"),
        ("localhost/foo", "localhost", "foo", "latest", "localhost/foo:latest"),
        ("localhost:5000/foo:x_Y.z-1", "localhost:5000", "foo", "x_Y.z-1", "localhost:5000/foo:x_Y.z-1"),
        ("localhost", "docker.io", "library/localhost", "latest", "localhost:latest"),
        ("Foo/bar", "Foo", "bar", "latest", "Foo/bar:latest"),
        ("FOO/bar", "FOO", "bar", "latest", "FOO/bar:latest"),
        ("[fc00::1]:5000/docker", "[fc00::1]:5000", "docker", "latest", "[fc00::1]:5000/docker:latest"),
        ("[fc00:1:2:3:4:5:6:7]/a/b", "[fc00:1:2:3:4:5:6:7]", "a/b", "latest", "[fc00:1:2:3:4:5:6:7]/a/b:latest"),
        ("192.168.0.1", "docker.io", "library/192.168.0.1", "latest", "192.168.0.1:latest"),
        ("192.168.0.1:80", "docker.io", "library/192.168.0.1", "80", "192.168.0.1:80"),
        ("[::]:65535/debian", "[::]:65535", "debian", "latest", "[::]:65535/debian:latest"),
        ("[1:2:3:4:5:6:7:8]/debian", "[1:2:3:4:5:6:7:8]", "debian", "latest", "[1:2:3:4:5:6:7:8]/debian:latest"),
        ("[FC00::A]/debian", "[FC00::A]", "debian", "latest", "[FC00::A]/debian:latest"),
        ("192.168.0.1:8/debian", "192.168.0.1:8", "debian", "latest", "192.168.0.1:8/debian:latest"),
        ("docker---rules/docker", "docker.io", "docker---rules/docker", "latest", "docker---rules/docker:latest"),
        ("dock__er/docker", "docker.io", "dock__er/docker", "latest", "dock__er/docker:latest"),
        ("d/t", "docker.io", "d/t", "latest", "d/t:latest"),
        (f"docker.io/{HEX}", "docker.io", f"library/{HEX}", "latest", f"{HEX}:latest"),
        (HEX[:-1], "docker.io", f"library/{HEX[:-1]}", "latest", f"{HEX[:-1]}:latest"),
        ("docker.io/foo.bar/baz", "docker.io", "foo.bar/baz", "latest", "docker.io/foo.bar/baz:latest"),
        ("docker.io/localhost/baz", "docker.io", "localhost/baz", "latest", "docker.io/localhost/baz:latest"),
        (f"a:{'x' * 128}", "docker.io", "library/a", "x" * 128, f"a:{'x' * 128}"),
    ],
)
def test_normalisation(text: str, domain: str, path: str, tag: str, familiar: str) -> None:
    reference = Reference.parse(text)
    assert reference == Reference(domain, path, tag, None)
    assert (str(reference), reference.name) == (f"{domain}/{path}:{tag}", f"{domain}/{path}")
    assert reference.familiar == familiar
    assert Reference.parse(str(reference)) == Reference.parse(familiar) == reference


@pytest.mark.parametrize(
    ("text", "expected", "familiar"),
    [
        (f"busybox@{DIGEST}", Reference("docker.io", "library/busybox", "", DIGEST), f"busybox@{DIGEST}"),
        (f"busybox:latest@{DIGEST}", Reference("docker.io", "library/busybox", "latest", DIGEST), f"busybox:latest@{DIGEST}"),
        (f"localhost:5000/a/b:1@{DIGEST}", Reference("localhost:5000", "a/b", "1", DIGEST), f"localhost:5000/a/b:1@{DIGEST}"),
    ],
)
def test_digests(text: str, expected: Reference, familiar: str) -> None:
    reference = Reference.parse(text)
    assert (reference, reference.familiar) == (expected, familiar)
    assert Reference.parse(str(reference)) == reference


@pytest.mark.parametrize(
    ("text", "reason", "hint"),
    [
        ("", "it has no name", "a reference looks like name:tag or registry.example/name:tag"),
        (":1", "it has no name", "a reference looks like name:tag or registry.example/name:tag"),
        ("docker.io/", "it has no name", "a reference looks like name:tag or registry.example/name:tag"),
        (f"@{DIGEST}", "it has no name", "a reference looks like name:tag or registry.example/name:tag"),
        ("a:", "its tag is empty", None),
        ("a:-x", "'-x' is not a tag", None),
        (f"a:{'x' * 129}", f"'{'x' * 129}' is not a tag", None),
        ("a:b:c", "'b:c' is not a tag", None),
        ("a:b\n", "'b\n' is not a tag", None),
        ("docker/Docker", "'Docker' is not a name", "write 'docker/docker'"),
        ("Alpine:3", "'Alpine' is not a name", "write 'alpine:3'"),
        ("-docker", "'-docker' is not a name", None),
        ("docker-/docker", "'docker-' is not a name", None),
        ("_docker/_docker", "'_docker' is not a name", None),
        ("dock..er/docker", "'dock..er' is not a registry's name", None),
        ("dock_.er/docker", "'dock_.er' is not a registry's name", None),
        ("docker///docker", "'' is not a name", EMPTY),
        ("docker.io/docker///docker", "'' is not a name", EMPTY),
        ("docker/", "'' is not a name", EMPTY),
        ("registry.example/team//app:1", "'' is not a name", EMPTY),
        ("-docker.io/docker/docker", "'-docker.io' is not a registry's name", REGISTRY),
        ("https://github.com/docker/docker", "'https:' is not a registry's name", "leave 'https://' out"),
        ("[fc00::1]", "it names a registry and no image", "write [fc00::1]/name:tag"),
        ("[fc00::1]:5000", "it names a registry and no image", "write [fc00::1]:5000/name:tag"),
        ("[fc00::1]:", "'[fc00::1]:' is not a registry's name", REGISTRY),
        ("[fc00::1]:5000/", "it has no name", "a reference looks like name:tag or registry.example/name:tag"),
        (
            "fc00::1:5000/debian",
            "'fc00::1:5000' is not a registry's name",
            "an IPv6 address stands in brackets: [::1]:5000/name",
        ),
        ("::1/debian", "'::1' is not a registry's name", "an IPv6 address stands in brackets: [::1]:5000/name"),
        (
            "[1]:5000/debian",
            "'[1]:5000' is not a registry's name",
            "'[1]' is no IPv6 address: it is written in hexadecimal digits and colons",
        ),
        (
            "[:::::]/debian",
            "'[:::::]' is not a registry's name",
            "'[:::::]' is no IPv6 address: it is written in hexadecimal digits and colons",
        ),
        (
            "[1:2:3:4:5:6:7:8:9]/debian",
            "'[1:2:3:4:5:6:7:8:9]' is not a registry's name",
            "'[1:2:3:4:5:6:7:8:9]' is no IPv6 address: it is written in hexadecimal digits and colons",
        ),
        (
            "[12345::]/debian",
            "'[12345::]' is not a registry's name",
            "'[12345::]' is no IPv6 address: it is written in hexadecimal digits and colons",
        ),
        ("[fc00::1/debian", "'[fc00::1' is not a registry's name", REGISTRY),
        (
            "[fe80::1%eth0]:5000/debian",
            "'[fe80::1%eth0]:5000' is not a registry's name",
            "no zone can stand in it: leave '%eth0' out",
        ),
        (
            "[2001:db8:3:4::192.0.2.33]:5000/debian",
            "'[2001:db8:3:4::192.0.2.33]:5000' is not a registry's name",
            "'[2001:db8:3:4::192.0.2.33]' is no IPv6 address: it is written in hexadecimal digits and colons",
        ),
        ("registry.example:/debian", "'registry.example:' is not a registry's name", REGISTRY),
        ("registry.example:http/debian", "'registry.example:http' is not a registry's name", REGISTRY),
        (HEX, "64 hexadecimal digits are an image's id", f"write 'docker.io/library/{HEX}' for a name"),
        ("a@", "'' is not a digest", "a digest looks like sha256:<64 hexadecimal digits>"),
        ("a@sha256:12", "'sha256:12' is not a digest", "sha256 has 64 lower-case hexadecimal digits"),
        (f"a@sha256:{HEX.upper()}", f"'sha256:{HEX.upper()}' is not a digest", None),
        (f"a@{DIGEST}@{DIGEST}", f"'{DIGEST}@{DIGEST}' is not a digest", None),
        ("a b", "'a b' is not a name", None),
        ("é", "'é' is not a name", None),
        ("../a", "'..' is not a registry's name", None),
        ("x" * 256, "its name is longer than 255 characters", "with docker.io/library/ it has 274"),
        (f"a.b/{'x' * 252}", "its name is longer than 255 characters", None),
    ],
)
def test_what_is_no_reference(text: str, reason: str, hint: str | None) -> None:
    with pytest.raises(UsageError) as caught:
        Reference.parse(text)
    assert caught.value.message == f"'{text}' is not an image reference: {reason}"
    assert hint is None or caught.value.hint == hint


component = st.from_regex(r"[a-z0-9]{1,3}((\.|_|__|-{1,3})[a-z0-9]{1,3})?", fullmatch=True)
domain = st.sampled_from(
    ["", "localhost/", "a.b/", "A/", "a:1/", "[::1]:5/", "docker.io/", "index.docker.io/", "docker.io/library/"]
)
references = st.builds(
    lambda where, parts, tag, digest: where + "/".join(parts) + tag + digest,
    domain,
    st.lists(component, min_size=1, max_size=3),
    st.sampled_from(["", ":1", ":v1.2-x_Y"]),
    st.sampled_from(["", f"@{DIGEST}"]),
)


@settings(max_examples=200, deadline=None)
@given(references)
@example("docker.io/library/a/b")
@example("docker.io/a.b/c")
def test_every_spelling_leads_back_to_itself(text: str) -> None:
    reference = Reference.parse(text)
    assert Reference.parse(str(reference)) == reference
    assert Reference.parse(reference.familiar) == reference


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=20) | st.text("aA0./:@-_[]", max_size=20))
def test_any_text_is_a_reference_or_a_usage_error(text: str) -> None:
    try:
        reference = Reference.parse(text)
    except UsageError:
        return
    assert Reference.parse(reference.familiar) == reference
