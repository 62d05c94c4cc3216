"""What the disk's refusals mean: no room, which may come; or trouble that one more try may get past. Pure."""

from __future__ import annotations

import errno

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})
TROUBLE = frozenset({errno.EIO, errno.ETIMEDOUT, errno.ESTALE})


def is_no_room(error: BaseException) -> bool:
    """Whether the disk is full, or the owner's share of it: waiting helps."""
    return isinstance(error, OSError) and error.errno in NO_ROOM


def is_trouble(error: BaseException) -> bool:
    """Whether the device failed: another try may help, waiting for ever will not."""
    return isinstance(error, OSError) and error.errno in TROUBLE
