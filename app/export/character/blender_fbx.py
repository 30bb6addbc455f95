"""Runs inside Blender: GLB to FBX. Arguments: source, target, frames per second, number of frames, animation's name."""

import sys

import bpy

source, target, rate, count, name = sys.argv[-5:]
bpy.ops.wm.read_factory_settings(use_empty=True)
scene = bpy.context.scene
scene.render.fps = round(float(rate))
scene.render.fps_base = round(float(rate)) / float(rate)
bpy.ops.import_scene.gltf(filepath=source)
scene.name = name  # which the exporter gives the animation
for thing in [thing for thing in bpy.data.objects if thing.type == "MESH" and not thing.find_armature()]:
    bpy.data.objects.remove(thing)  # the shape that the importer draws bones with
scene.frame_start, scene.frame_end = 0, int(count) - 1
bpy.ops.export_scene.fbx(
    filepath=target,
    object_types={"ARMATURE", "MESH"},
    add_leaf_bones=False,
    bake_anim_use_nla_strips=False,
    bake_anim_use_all_actions=False,
    bake_anim_simplify_factor=0.0,
)
