# wrapper.sh of small_1.0_20260102: made by neurocommand. The release is withdrawn; every wrapper sources this file.
printf '%s: %s\n' "$nc_command" 'small_1.0_20260102 is withdrawn since 2026-03-02: it'"'"'s wrong; $(id) `id` \; use small/1.1 instead' >&2
exit 69
