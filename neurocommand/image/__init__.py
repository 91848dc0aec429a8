"""Images: converted to SIF, unpacked, made fit for a shared place, and inspected without being run."""
