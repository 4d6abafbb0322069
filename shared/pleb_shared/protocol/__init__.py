"""What travels between agent, coordinator and researcher: structs, ceilings, envelopes."""
