"""Pure text: wrappers, modulefiles, log.txt, applist.json."""
