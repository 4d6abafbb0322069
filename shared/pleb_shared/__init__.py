"""What agent, coordinator and researcher must agree on: protocol, tensors, training. No I/O."""
