"""Rules for calls of operators, so that no kernel reads or writes beside its memory."""
