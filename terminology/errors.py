"""How this room says no. It knows nobody, so it has an error of its own; the edges that call it turn it into theirs."""


class Unreadable(Exception):
    """A file that is none of the formats this room reads, or breaks the one it claims to be.

    at   FHIRPath or line of the place; text says what to change and holds no data of persons
    """

    def __init__(self, text: str, *, at: str | None = None) -> None:
        super().__init__(f"{at}: {text}" if at else text)
        self.text = text
        self.at = at
