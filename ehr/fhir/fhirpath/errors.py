"""What can be wrong with an expression.

ExpressionError  422  it cannot be read, or asks for what its input does not allow: `1 + 'a'`, `name.single()` of two
TooMuch          413  it needs more steps, depth or text than ehr.limits gives one expression
"""

from typing import ClassVar

from ehr.errors import Invalid


class ExpressionError(Invalid):
    """The expression has to be changed, or does not fit what it was evaluated on."""

    issue_code: ClassVar[str] = "invalid"
