-- -*- lua -*-
-- tool_1.0_20260102: made by neurocommand; the whole root may be moved, since everything is found from this file's own place.
help([=[
# tool

----

[badge](x)

  A tool,   for  brains. It ends ]] or ]===] so.

More: `tool --help`]]=])
whatis("Name: tool")
whatis("Version: 1.0")
whatis("Build date: 20260102")
whatis("Category: functional imaging, EEG")
whatis("Description: A tool, for brains. It ends ]] or ]===] so.")
whatis("Keywords: bet, 3dcalc")
conflict("tool")

-- The root, from this file's own path: <root>/modules/..., or through links <root>/containers/modules/... and
-- <root>/neurodesk-modules/<category>/...; the last two lines are for a module tree that is linked from elsewhere.
local here = myFileName():match("^(.*)/[^/]+/[^/]+$") or "."
local release
for _, root in ipairs({
    here:match("^(.*)/containers/modules$") or here,
    here:match("^(.*)/modules$") or here,
    here:match("^(.*)/neurodesk%-modules/[^/]+$") or here,
    here .. "/..",
    here .. "/../..",
}) do
    if not release and isDir(root .. "/containers/tool_1.0_20260102") then
        release = root .. "/containers/tool_1.0_20260102"
    end
end
if not release and mode() == "load" then
    LmodError("tool_1.0_20260102 is not deployed where this modulefile is")
end
release = release or (here:match("^(.*)/modules$") or here) .. "/containers/tool_1.0_20260102"
local image = release .. "/tool_1.0_20260102.simg"

-- Loaded by the name <version>-warm, which is a link to this file, its commands keep their container running.
if myFileName():match("%-warm%.lua$") then
    append_path("NEUROCOMMAND_WARM", "tool")
end
prepend_path("PATH", release .. "/bin")
setenv("DIR", image .. "/opt/tool:" .. image)
setenv("MODE", "a \"b\" \\")
-- BREAK is not set: its value has a line break or control character
