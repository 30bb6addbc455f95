"""Runs inside Blender: GLB to FBX. Arguments: source, target, frames per second, number of frames."""

import sys

import bpy

source, target, rate, count = sys.argv[-4:]
bpy.ops.wm.read_factory_settings(use_empty=True)
scene = bpy.context.scene
scene.render.fps = round(float(rate))
scene.render.fps_base = round(float(rate)) / float(rate)
bpy.ops.import_scene.gltf(filepath=source)
scene.frame_start, scene.frame_end = 0, int(count) - 1
bpy.ops.export_scene.fbx(
    filepath=target,
    object_types={"ARMATURE", "MESH"},
    add_leaf_bones=False,
    bake_anim_use_nla_strips=False,
    bake_anim_use_all_actions=False,
    bake_anim_simplify_factor=0.0,
)
