"""Words that this project's pages, its docstrings and its test names do not use."""

from __future__ import annotations

# Words that a network engineer does not know from elsewhere, and what is said instead.
PRIVATE = {
    r"tenures?": "lease",
    r"stir(s|red|ring)?": "changed, had an event",
    r"heed(s|ed|ing)?": "handle, process",
    r"stand-ins?": "placeholder device, placeholder claim",
    r"pairs? of devices|veth pairs?": "veth",
    r"ledger": "repair log",
    r"(two|second) strikes?|strikes": "checks",
    r"of ours|ours": "the driver's",
    r"who(so)?ever": "a client, a program, the administrator",
    r"(some|any|every|no)body('s)?": "another program, no container, all of them",
    r"anew": "again",
    r"astray": "different",
    r"put(s|ting)? right": "repair",
    r"undone again": "reverted",
    r"as like as not|at one blow|as ever|of late": "say how often or when",
}
# In code, `ours` is the field's word for what carries the mark of this service.
IN_CODE = {words: instead for words, instead in PRIVATE.items() if "ours" not in words}
IN_CODE[r"who|whom"] = "a program, Docker, the administrator"
