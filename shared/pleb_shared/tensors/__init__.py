"""Named arrays and their bytes: layouts, codecs, versions. numpy only; no torch, no I/O."""
