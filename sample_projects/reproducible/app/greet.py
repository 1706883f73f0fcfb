"""Says hello to each name."""

from names import NAMES


def main() -> None:
    for name in sorted(NAMES):
        print(f"hello {name}")


if __name__ == "__main__":
    main()
