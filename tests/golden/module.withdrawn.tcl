#%Module1.0
# tool_1.0_20260102: made by neurocommand; withdrawn: it cannot be loaded, and says why.
proc ModulesHelp {} {
    puts stderr "tool/1.0 is withdrawn since 2026-01-31: wrong results."
}
module-whatis "Name: tool"
module-whatis "Version: 1.0"
module-whatis "Build date: 20260102"
module-whatis "Withdrawn: since 2026-01-31: wrong results"
module-whatis "Category: EEG"
if {[module-info mode load]} {
    puts stderr "tool/1.0 is withdrawn since 2026-01-31: wrong results"
    break
}
conflict tool

# The root, from this file's own path: <root>/modules-tcl/...; or, where that tree is linked from elsewhere, the
# directory that the tree is really in.
set tree [file dirname [file dirname $ModulesCurrentModulefile]]
set release ""
foreach root [list [file dirname $tree] $tree/..] {
    if {$release eq "" && [file isdirectory $root/containers/tool_1.0_20260102]} {
        set release $root/containers/tool_1.0_20260102
    }
}
if {$release eq ""} {
    if {[module-info mode load]} {
        puts stderr "tool_1.0_20260102 is not deployed where this modulefile is"
        break
    }
    set release [file dirname $tree]/containers/tool_1.0_20260102
}
set image $release/tool_1.0_20260102.simg

# Loaded by the name <version>-warm, which is a link to this file, its commands keep their container running.
if {[string match *-warm $ModulesCurrentModulefile]} {
    append-path NEUROCOMMAND_WARM tool
}
prepend-path PATH $release/bin
