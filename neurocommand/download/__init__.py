"""One verified local file: from all of its sources at once where they can be read so, else from one after the other."""
