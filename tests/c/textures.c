/* Textures and surfaces, as objects and as references of modules: each line is a fact that must be the same on a driver and through the
   remoting. */
#include "images.h"

#define HEAD(name, more)                                                                                                      \
    ".visible .entry " name "(.param .u64 out, .param .u64 image, .param .f32 a, .param .f32 b" more ") {\n"                  \
    "  .reg .f32 %f<16>; .reg .b32 %r<16>; .reg .b64 %d<8>; .reg .b16 %h<8>;\n"                                                \
    "  ld.param.u64 %d0, [out]; ld.param.u64 %d1, [image]; ld.param.f32 %f0, [a]; ld.param.f32 %f1, [b];\n"                    \
    "  mov.u32 %r0, %tid.x; mov.u32 %r1, %ctaid.x; mov.u32 %r2, %ntid.x; mad.lo.u32 %r3, %r1, %r2, %r0;\n"                     \
    "  mul.wide.u32 %d2, %r3, 4; add.u64 %d3, %d0, %d2; cvt.rn.f32.u32 %f2, %r0; cvt.rn.f32.u32 %f3, %r1;\n"                   \
    "  add.f32 %f2, %f2, 0f3F000000; add.f32 %f3, %f3, 0f3F000000; mul.f32 %f2, %f2, %f0; mul.f32 %f3, %f3, %f1;\n"
#define TAIL "  st.global.f32 [%d3], %f4; ret;\n}\n"

/* Each thread looks at ((x + 0.5) * a, (y + 0.5) * b), x being its own number and y its block's. */
static const char *PTX =
    ".version 7.8\n.target sm_70\n.address_size 64\n.global .texref picture;\n.global .texref other;\n.global .surfref canvas;\n"
    HEAD("look", "") "  tex.2d.v4.f32.f32 {%f4, %f5, %f6, %f7}, [%d1, {%f2, %f3}];\n" TAIL
    HEAD("words", "") "  tex.2d.v4.u32.f32 {%r4, %r5, %r6, %r7}, [%d1, {%f2, %f3}]; st.global.u32 [%d3], %r4; ret;\n}\n"
    HEAD("line", "") "  tex.1d.v4.f32.f32 {%f4, %f5, %f6, %f7}, [%d1, {%f2}];\n" TAIL
    HEAD("fetch", "") "  cvt.rni.s32.f32 %r4, %f0; add.s32 %r4, %r4, %r3;\n"
                      "  tex.1d.v4.s32.s32 {%r5, %r6, %r7, %r8}, [%d1, {%r4}]; st.global.u32 [%d3], %r5; ret;\n}\n"
    HEAD("layer", "") "  mov.u32 %r4, 1; tex.a2d.v4.f32.f32 {%f4, %f5, %f6, %f7}, [%d1, {%r4, %f2, %f3, %f3}];\n" TAIL
    HEAD("volume", "") "  mov.f32 %f8, 0f3FC00000; tex.3d.v4.f32.f32 {%f4, %f5, %f6, %f7}, [%d1, {%f2, %f3, %f8, %f8}];\n" TAIL
    HEAD("cube", "") "  sub.f32 %f2, %f2, 0f3F800000; sub.f32 %f3, %f3, 0f3F800000; mov.f32 %f8, 0fBF800000;\n"
                     "  tex.cube.v4.f32.f32 {%f4, %f5, %f6, %f7}, [%d1, {%f2, %f3, %f8, %f8}];\n" TAIL
    HEAD("level", "") "  mov.f32 %f8, 0f3F000000; tex.level.2d.v4.f32.f32 {%f4, %f5, %f6, %f7}, [%d1, {%f8, %f8}], %f2;\n" TAIL
    HEAD("named", "") "  tex.2d.v4.f32.f32 {%f4, %f5, %f6, %f7}, [picture, {%f2, %f3}];\n" TAIL
    HEAD("paint", "") "  cvt.rni.u32.f32 %r4, %f0; mad.lo.u32 %r5, %r1, 1000, %r0; add.u32 %r5, %r5, %r4; shl.b32 %r6, %r0, 2;\n"
                      "  sust.b.2d.b32.trap [canvas, {%r6, %r1}], %r5; ret;\n}\n"
    HEAD("invert", "") "  shl.b32 %r4, %r0, 2; suld.b.2d.b32.zero %r5, [%d1, {%r4, %r1}]; not.b32 %r5, %r5; sust.b.2d.b32.zero [%d0, {%r4, %r1}], %r5; ret;\n}\n"
    HEAD("slices", "") "  shl.b32 %r4, %r0, 2; mov.u32 %r5, 2; sust.b.3d.b32.clamp [%d0, {%r4, %r1, %r5, %r5}], %r3; ret;\n}\n";

static handle module;
static ptr out;
static float seen[1024], plane[32];

static int run(const char *kernel, unsigned blocks, unsigned threads, uint64_t target, uint64_t image, float a, float b, handle in) {
    handle function = NULL;
    int code = CALL(cuModuleGetFunction, (handle *, handle, const char *), &function, module, kernel);
    if (!code)
        code = CALL(cuLaunchKernel, (handle, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, handle, void **, void **), function, blocks, 1,
                    1, threads, 1, 1, 0, in, (void *[]){&target, &image, &a, &b}, NULL);
    return code;
}
static void look(const char *fact, const char *kernel, unsigned blocks, unsigned threads, uint64_t image, float a, float b) {
    memset(seen, 0, sizeof seen);
    int code = run(kernel, blocks, threads, out, image, a, b, NULL);
    if (!code) code = CALL(cuMemcpyDtoH_v2, (void *, ptr, size_t), seen, out, 4 * blocks * threads);
    SAY(fact, code);
    SAY("  seen", sum(seen, 4 * blocks * threads));
}
static struct resource of(handle array) {
    struct resource resource;
    memset(&resource, 0, sizeof resource);
    resource.of.array = array;
    return resource;
}
static struct sampling clamped(void) {
    struct sampling sampling;
    memset(&sampling, 0, sizeof sampling);
    for (int i = 0; i < 3; i++) sampling.address[i] = 1;
    return sampling;
}
static int create(uint64_t *object, const struct resource *resource, const struct sampling *sampling, const struct view *view) {
    return CALL(cuTexObjectCreate, (uint64_t *, const void *, const void *, const void *), object, resource, sampling, view);
}
static uint64_t texture(struct resource resource, struct sampling sampling) {
    uint64_t object = 0;
    int code = create(&object, &resource, &sampling, NULL);
    if (code) SAY("a texture cannot be made", code);
    return object;
}
static handle filled(handle array, void *from, size_t width, size_t height, size_t depth) {
    int code = move(array, from, 0, 0, 0, width, height, depth, 1, NULL);
    if (code) SAY("an array cannot be filled", code);
    return array;
}

static void objects(void) {
    handle array = filled(made(8, 4, 0, F32, 1, 0), plane, 32, 4, 1);
    struct sampling sampling = clamped(), told;
    struct resource resource = of(array), described;
    struct view view;
    uint64_t object = 0;
    SAY("cuTexObjectCreate(NULL)", create(NULL, &resource, &sampling, NULL));
    SAY("cuTexObjectCreate(no resource)", create(&object, NULL, &sampling, NULL));
    SAY("cuTexObjectCreate(no sampling)", create(&object, &resource, NULL, NULL));
    SAY("cuTexObjectCreate", create(&object, &resource, &sampling, NULL));
    look("the nearest texels", "look", 8, 16, object, 0.5f, 0.5f);
    SAY("  as filled", seen[0] == plane[0] && seen[2 * 16 + 2] == plane[9] && seen[7 * 16 + 15] == plane[31]);
    look("clamped beyond the edges", "look", 8, 16, object, 1.5f, 1.5f);
    SAY("cuTexObjectGetResourceDesc", CALL(cuTexObjectGetResourceDesc, (void *, uint64_t), &described, object));
    SAY("  as made", described.type == 0 && described.of.array == array && described.flags == 0);
    SAY("cuTexObjectGetTextureDesc", CALL(cuTexObjectGetTextureDesc, (void *, uint64_t), &told, object));
    SAY("  as made", !memcmp(&told, &sampling, sizeof told));
    SAY("cuTexObjectGetResourceViewDesc(none)", CALL(cuTexObjectGetResourceViewDesc, (void *, uint64_t), &view, object));
    SAY("cuTexObjectGetTextureDesc(NULL)", CALL(cuTexObjectGetTextureDesc, (void *, uint64_t), NULL, object));
    SAY("cuTexObjectDestroy", CALL(cuTexObjectDestroy, (uint64_t), object));
    SAY("cuTexObjectDestroy again", CALL(cuTexObjectDestroy, (uint64_t), object));
    SAY("cuTexObjectGetResourceDesc afterwards", CALL(cuTexObjectGetResourceDesc, (void *, uint64_t), &described, object));
    for (unsigned mode = 0; mode < 4; mode++) {
        sampling = clamped();
        sampling.address[0] = mode, sampling.address[1] = (mode + 1) % 4, sampling.flags = 2, sampling.filter = mode & 1;
        sampling.border[0] = 77;
        look("by an address mode", "look", 12, 24, object = texture(resource, sampling), 1 / 8.0f, 1 / 4.0f);
        CALL(cuTexObjectDestroy, (uint64_t), object);
    }
    sampling = clamped(), sampling.filter = 1;
    look("between texels", "look", 9, 17, object = texture(resource, sampling), 0.4f, 0.3f);
    CALL(cuTexObjectDestroy, (uint64_t), object);
#define WRONG(what, edit) (sampling = clamped(), resource = of(array), edit, SAY(what, create(&object, &resource, &sampling, NULL)))
    SAY("cuTexObjectCreate of", 0);
    WRONG("  no such address mode", sampling.address[1] = 4);
    WRONG("  no such filter", sampling.filter = 2);
    WRONG("  no such flag", sampling.flags = 4);
    WRONG("  no such resource", resource.type = 4);
    WRONG("  resource flags", resource.flags = 1);
    WRONG("  no array", resource.of.array = (handle)0x123450);
    WRONG("  a mipmapped array that is none", resource.type = 1);

    handle bytes = filled(made(4, 2, 3, U8, 4, LAYERED), (unsigned char *)plane, 16, 2, 3);
    resource = of(bytes), sampling = clamped(), sampling.flags = 1;
    view = (struct view){13, 4, 2, 0, 0, 0, 1, 2};
    SAY("cuTexObjectCreate(view)", create(&object, &resource, &sampling, &view));
    look("words of the second layer", "words", 2, 4, object, 1, 1);
    struct view again;
    SAY("cuTexObjectGetResourceViewDesc", CALL(cuTexObjectGetResourceViewDesc, (void *, uint64_t), &again, object));
    SAY("  as made", !memcmp(&again, &view, sizeof view));
    CALL(cuTexObjectDestroy, (uint64_t), object);
    view.last_layer = 3;
    SAY("cuTexObjectCreate(view beyond)", create(&object, &resource, &sampling, &view));
    view.last_layer = 2, view.format = 99;
    SAY("cuTexObjectCreate(view of no format)", create(&object, &resource, &sampling, &view));
    sampling = clamped();
    look("fractions", "look", 2, 4, object = texture(resource, sampling), 1, 1);
    look("a layer", "layer", 2, 4, object, 1, 1);
    CALL(cuTexObjectDestroy, (uint64_t), object);
    CALL(cuArrayDestroy, (handle), bytes);
    CALL(cuArrayDestroy, (handle), array);
}

static void shapes(void) {
    float many[512];
    for (int i = 0; i < 512; i++) many[i] = (float)(i * i % 97);
    uint64_t object = 0;
    struct sampling linear = clamped();
    linear.filter = 1;
    handle line = filled(made(100, 0, 0, F32, 1, 0), many, 400, 1, 1), volume = filled(made(8, 4, 4, F32, 1, 0), many, 32, 4, 4);
    handle cube = filled(made(4, 4, 6, F32, 1, CUBE), many, 16, 4, 6), layers = filled(made(8, 4, 3, F32, 1, LAYERED), many, 32, 4, 3);
    look("a line", "line", 1, 64, object = texture(of(line), linear), 1.3f, 1);
    CALL(cuTexObjectDestroy, (uint64_t), object);
    look("a volume", "volume", 4, 8, object = texture(of(volume), linear), 0.9f, 0.8f);
    CALL(cuTexObjectDestroy, (uint64_t), object);
    look("a cube", "cube", 8, 8, object = texture(of(cube), clamped()), 0.24f, 0.24f);
    CALL(cuTexObjectDestroy, (uint64_t), object);
    look("a layer", "layer", 4, 8, object = texture(of(layers), linear), 0.7f, 0.7f);
    CALL(cuTexObjectDestroy, (uint64_t), object);
    solid_array shape = {8, 8, 0, F32, 1, 0};
    handle levels = NULL, level = NULL;
    CALL(cuMipmappedArrayCreate, (handle *, const solid_array *, unsigned), &levels, &shape, 4);
    for (unsigned i = 0; i < 4; i++) {
        CALL(cuMipmappedArrayGetLevel, (handle *, handle, unsigned), &level, levels, i);
        for (int j = 0; j < 64; j++) many[j] = (float)(10 * i + 1);
        filled(level, many, 4 * (8 >> i), 8 >> i, 1);
    }
    struct resource mipmapped = of(levels);
    mipmapped.type = 1;
    struct sampling by_level = clamped();
    by_level.flags = 2, by_level.mip_filter = 1, by_level.max = 3, by_level.bias = 0;
    look("levels of detail", "level", 1, 16, object = texture(mipmapped, by_level), 0.25f, 1);
    SAY("  between the first two", seen[1] > 1 && seen[1] < 11);
    CALL(cuTexObjectDestroy, (uint64_t), object);
    by_level.min = 1, by_level.max = 2, by_level.bias = 0.5f;
    look("levels within bounds", "level", 1, 16, object = texture(mipmapped, by_level), 0.25f, 1);
    CALL(cuTexObjectDestroy, (uint64_t), object);
    CALL(cuMipmappedArrayDestroy, (handle), levels);

    ptr memory = take(4096);
    int values[256];
    for (int i = 0; i < 256; i++) values[i] = 3 * i - 100;
    CALL(cuMemcpyHtoD_v2, (ptr, const void *, size_t), memory, values, sizeof values);
    struct resource linear_memory;
    memset(&linear_memory, 0, sizeof linear_memory);
    linear_memory.type = 2, linear_memory.of.memory.at = memory, linear_memory.of.memory.format = S32, linear_memory.of.memory.channels = 1;
    linear_memory.of.memory.size = 1000;
    look("linear memory", "fetch", 2, 64, object = texture(linear_memory, clamped()), -4, 1);
    SAY("  the fifth", ((int *)seen)[4]);
    CALL(cuTexObjectDestroy, (uint64_t), object);
    struct resource rows = linear_memory;
    rows.type = 3, rows.of.memory.format = U32, rows.of.memory.size = 20, rows.of.memory.height = 8, rows.of.memory.pitch = 96;
    struct sampling as_words = clamped();
    as_words.flags = 1;
    look("rows of memory", "words", 8, 20, object = texture(rows, as_words), 1, 1);
    CALL(cuTexObjectDestroy, (uint64_t), object);
    struct sampling sampling = clamped();
    struct resource resource;
#undef WRONG
#define WRONG(what, from, edit) (resource = from, edit, SAY(what, create(&object, &resource, &sampling, NULL)))
    SAY("cuTexObjectCreate of", 1);
    WRONG("  an odd address", rows, resource.of.memory.at += 4);
    WRONG("  an odd pitch", rows, resource.of.memory.pitch = 100);
    WRONG("  a narrow pitch", rows, resource.of.memory.pitch = 64);
    WRONG("  more rows than there are", rows, resource.of.memory.height = 100);
    WRONG("  no rows", rows, resource.of.memory.height = 0);
    WRONG("  rows without end", rows, resource.of.memory.size = (size_t)-1);
    WRONG("  three channels", rows, resource.of.memory.channels = 3);
    WRONG("  no format", rows, resource.of.memory.format = 0);
    WRONG("  memory past its end", linear_memory, resource.of.memory.size = 8192);
    WRONG("  no memory", linear_memory, resource.of.memory.size = 0);
    WRONG("  the program's own memory", linear_memory, resource.of.memory.at = (ptr)(uintptr_t)values / 512 * 512);
    CALL(cuMemFree_v2, (ptr), memory);
    handle all[] = {line, volume, cube, layers};
    for (int i = 0; i < 4; i++) CALL(cuArrayDestroy, (handle), all[i]);
}

static void surfaces(void) {
    handle from = made(16, 8, 0, U8, 4, SURFACE), to = made(16, 8, 0, U8, 4, SURFACE), plain = made(16, 8, 0, U8, 4, 0), volume = made(8, 4, 4, U32, 1, SURFACE);
    unsigned words[128], back[128];
    for (int i = 0; i < 128; i++) words[i] = 0x01020304u * (unsigned)i;
    filled(from, words, 64, 8, 1);
    uint64_t a = 0, b = 0, c = 0;
    struct resource resource = of(from), told;
#define SURF(place, what) CALL(cuSurfObjectCreate, (uint64_t *, const void *), place, what)
    SAY("cuSurfObjectCreate", SURF(&a, &resource));
    SAY("cuSurfObjectCreate(NULL)", SURF(NULL, &resource));
    SAY("cuSurfObjectCreate(no resource)", SURF(&b, NULL));
    SAY("cuSurfObjectGetResourceDesc", CALL(cuSurfObjectGetResourceDesc, (void *, uint64_t), &told, a));
    SAY("  as made", told.type == 0 && told.of.array == from);
    resource = of(to);
    SURF(&b, &resource);
    SAY("inverted", run("invert", 8, 16, b, a, 0, 0, stream));
    SAY("a copy behind it", move(to, back, 0, 0, 0, 64, 8, 1, 0, stream));
    int right = 1;
    for (int i = 0; i < 128; i++) right &= back[i] == ~words[i];
    SAY("  words", right);
    resource = of(volume);
    SURF(&c, &resource);
    SAY("a slice", run("slices", 4, 8, c, 0, 0, 0, NULL));
    SAY("  back", move(volume, back, 0, 0, 2, 32, 4, 1, 0, NULL));
    SAY("  words", back[0] == 0 && back[31] == 31);
    resource = of(plain);
    SAY("cuSurfObjectCreate(not for surfaces)", SURF(&c, &resource));
    resource.type = 2;
    SAY("cuSurfObjectCreate(memory)", SURF(&c, &resource));
    resource = of((handle)0x123450);
    SAY("cuSurfObjectCreate(nothing)", SURF(&c, &resource));
    resource = of(from), resource.flags = 1;
    SAY("cuSurfObjectCreate(flags)", SURF(&c, &resource));
    SAY("cuTexObjectDestroy of a surface", CALL(cuTexObjectDestroy, (uint64_t), a));
    SAY("cuSurfObjectDestroy", CALL(cuSurfObjectDestroy, (uint64_t), a));
    SAY("cuSurfObjectDestroy again", CALL(cuSurfObjectDestroy, (uint64_t), a));
    CALL(cuSurfObjectDestroy, (uint64_t), b);
    handle all[] = {from, to, plain, volume};
    for (int i = 0; i < 4; i++) CALL(cuArrayDestroy, (handle), all[i]);
}

static void ends(void) {
    handle array = made(8, 4, 0, F32, 1, SURFACE), second = NULL;
    struct resource resource = of(array);
    struct sampling sampling = clamped();
    uint64_t texture = 0, surface = 0;
    CALL(cuCtxCreate_v2, (handle *, unsigned, int), &second, 0, 0);
    handle inner = made(8, 4, 0, F32, 1, SURFACE), reference = NULL;
    resource = of(inner);
    SAY("objects of another context", create(&texture, &resource, &sampling, NULL) + SURF(&surface, &resource));
    SAY("cuTexRefCreate there", CALL(cuTexRefCreate, (handle *), &reference));
    CALL(cuCtxDestroy_v2, (handle), second);
    CALL(cuCtxSetCurrent, (handle), context);
    SAY("  gone with it", CALL(cuTexObjectDestroy, (uint64_t), texture));
    SAY("  gone with it", CALL(cuSurfObjectDestroy, (uint64_t), surface));
    SAY("  gone with it", CALL(cuTexRefDestroy, (handle), reference));
    SAY("  gone with it", CALL(cuArrayDestroy, (handle), inner));
    CALL(cuArrayDestroy, (handle), array);
}

static handle named(const char *name, int *code) {
    handle reference = NULL;
    *code = CALL(cuModuleGetTexRef, (handle *, handle, const char *), &reference, module, name);
    return reference;
}

static void references(void) {
    int code = 0;
    handle image = named("picture", &code), first = filled(made(8, 4, 0, F32, 1, 0), plane, 32, 4, 1), bound = NULL;
    SAY("cuModuleGetTexRef", code);
    SAY("  the same again", named("picture", &code) == image);
    named("canvas", &code);
    SAY("cuModuleGetTexRef(a surface)", code);
    named("nobody", &code);
    SAY("cuModuleGetTexRef(absent)", code);
    SAY("cuModuleGetTexRef(no module)", CALL(cuModuleGetTexRef, (handle *, handle, const char *), &bound, (handle)0x123450, "picture"));
    SAY("cuModuleGetTexRef(NULL)", CALL(cuModuleGetTexRef, (handle *, handle, const char *), NULL, module, "picture"));
    unsigned number = 99, format = 0;
    int channels = 0;
    float low = 9, high = 9, color[4] = {9, 9, 9, 9};
    ptr address = 0;
    SAY("cuTexRefGetArray(unbound)", CALL(cuTexRefGetArray, (handle *, handle), &bound, image));
    SAY("cuTexRefGetMipmappedArray(unbound)", CALL(cuTexRefGetMipmappedArray, (handle *, handle), &bound, image));
    SAY("cuTexRefGetAddress(unbound)", CALL(cuTexRefGetAddress_v2, (ptr *, handle), &address, image));
    SAY("cuTexRefGetFormat", CALL(cuTexRefGetFormat, (unsigned *, int *, handle), &format, &channels, image));
    SAY("  format and channels", format * 10 + channels);
    SAY("cuTexRefGetAddressMode", CALL(cuTexRefGetAddressMode, (unsigned *, handle, int), &number, image, 0));
    SAY("  mode", number);
    SAY("cuTexRefGetAddressMode(3)", CALL(cuTexRefGetAddressMode, (unsigned *, handle, int), &number, image, 3));
    SAY("cuTexRefGetFilterMode", CALL(cuTexRefGetFilterMode, (unsigned *, handle), &number, image));
    SAY("  mode", number);
    SAY("cuTexRefGetFlags", CALL(cuTexRefGetFlags, (unsigned *, handle), &number, image));
    SAY("  flags", number);
    SAY("cuTexRefGetMipmapLevelClamp", CALL(cuTexRefGetMipmapLevelClamp, (float *, float *, handle), &low, &high, image));
    SAY("  from", low);
    SAY("cuTexRefSetArray(flags)", CALL(cuTexRefSetArray, (handle, handle, unsigned), image, first, 0));
    SAY("cuTexRefSetArray(nothing)", CALL(cuTexRefSetArray, (handle, handle, unsigned), image, (handle)0x123450, 1));
    SAY("cuTexRefSetArray(no reference)", CALL(cuTexRefSetArray, (handle, handle, unsigned), first, first, 1));
    SAY("cuTexRefSetArray", CALL(cuTexRefSetArray, (handle, handle, unsigned), image, first, 1));
    SAY("cuTexRefGetArray", CALL(cuTexRefGetArray, (handle *, handle), &bound, image));
    SAY("  the array", bound == first);
    CALL(cuTexRefGetFormat, (unsigned *, int *, handle), &format, &channels, image);
    SAY("  format and channels", format * 10 + channels);
    look("by its name", "named", 4, 8, 0, 1, 1);
    SAY("  as filled", !memcmp(seen, plane, sizeof plane));
    handle function = NULL;
    CALL(cuModuleGetFunction, (handle *, handle, const char *), &function, module, "named");
    SAY("cuParamSetTexRef", CALL(cuParamSetTexRef, (handle, int, handle), function, -1, image));
    SAY("cuParamSetTexRef(unit)", CALL(cuParamSetTexRef, (handle, int, handle), function, 0, image));
    SAY("cuParamSetTexRef(no function)", CALL(cuParamSetTexRef, (handle, int, handle), image, -1, image));
    /* A launch has what was bound when it was made. */
    float doubled[32];
    for (int i = 0; i < 32; i++) doubled[i] = 2 * plane[i];
    handle second = filled(made(8, 4, 0, F32, 1, 0), doubled, 32, 4, 1);
    int right = 1;
    for (int round = 0; round < 50; round++) {
        CALL(cuTexRefSetArray, (handle, handle, unsigned), image, round & 1 ? second : first, 1);
        run("named", 4, 8, out + 128 * (round % 8), 0, 1, 1, stream);
        if (round % 8 == 7 || round == 49) {
            CALL(cuStreamSynchronize, (handle), stream);
            CALL(cuMemcpyDtoH_v2, (void *, ptr, size_t), seen, out, 1024);
            for (int i = round / 8 * 8; i <= round; i++) right &= !memcmp((char *)seen + 128 * (i % 8), i & 1 ? doubled : plane, 128);
        }
    }
    SAY("50 launches, bound in turn", right);
    SAY("cuTexRefSetFlags", CALL(cuTexRefSetFlags, (handle, unsigned), image, 2));
    SAY("cuTexRefSetFlags(no such flag)", CALL(cuTexRefSetFlags, (handle, unsigned), image, 4));
    SAY("cuTexRefSetFilterMode", CALL(cuTexRefSetFilterMode, (handle, unsigned), image, 1));
    SAY("cuTexRefSetFilterMode(2)", CALL(cuTexRefSetFilterMode, (handle, unsigned), image, 2));
    SAY("cuTexRefSetAddressMode", CALL(cuTexRefSetAddressMode, (handle, int, unsigned), image, 0, 0));
    SAY("cuTexRefSetAddressMode", CALL(cuTexRefSetAddressMode, (handle, int, unsigned), image, 1, 3));
    SAY("cuTexRefSetAddressMode(7)", CALL(cuTexRefSetAddressMode, (handle, int, unsigned), image, 1, 7));
    SAY("cuTexRefSetAddressMode(dimension 3)", CALL(cuTexRefSetAddressMode, (handle, int, unsigned), image, 3, 1));
    SAY("cuTexRefSetBorderColor", CALL(cuTexRefSetBorderColor, (handle, float *), image, (float[]){5, 6, 7, 8}));
    SAY("cuTexRefSetBorderColor(NULL)", CALL(cuTexRefSetBorderColor, (handle, float *), image, NULL));
    SAY("cuTexRefSetMipmapFilterMode", CALL(cuTexRefSetMipmapFilterMode, (handle, unsigned), image, 1));
    SAY("cuTexRefSetMipmapLevelBias", CALL(cuTexRefSetMipmapLevelBias, (handle, float), image, 0.5f));
    SAY("cuTexRefSetMipmapLevelClamp", CALL(cuTexRefSetMipmapLevelClamp, (handle, float, float), image, 1, 2));
    SAY("cuTexRefSetMaxAnisotropy", CALL(cuTexRefSetMaxAnisotropy, (handle, unsigned), image, 4));
    int most = 0;
    unsigned modes[3] = {9, 9, 9}, filter = 9, levels = 9, flags = 9;
    float bias = 9;
    for (int i = 0; i < 3; i++) CALL(cuTexRefGetAddressMode, (unsigned *, handle, int), &modes[i], image, i);
    CALL(cuTexRefGetFilterMode, (unsigned *, handle), &filter, image);
    CALL(cuTexRefGetMipmapFilterMode, (unsigned *, handle), &levels, image);
    CALL(cuTexRefGetMipmapLevelBias, (float *, handle), &bias, image);
    CALL(cuTexRefGetMipmapLevelClamp, (float *, float *, handle), &low, &high, image);
    CALL(cuTexRefGetMaxAnisotropy, (int *, handle), &most, image);
    CALL(cuTexRefGetBorderColor, (float *, handle), color, image);
    CALL(cuTexRefGetFlags, (unsigned *, handle), &flags, image);
    SAY("  as set", modes[0] == 0 && modes[1] == 3 && modes[2] == 1 && filter == 1 && levels == 1 && bias == 0.5f && low == 1 && high == 2 && most == 4 &&
                        color[0] == 5 && color[3] == 8 && flags == 2);
    look("wrapped and bordered", "named", 12, 24, 0, 1 / 8.0f, 1 / 4.0f);
    CALL(cuTexRefSetFlags, (handle, unsigned), image, 0);
    CALL(cuTexRefSetFilterMode, (handle, unsigned), image, 0);

    float rows[64];
    for (int i = 0; i < 64; i++) rows[i] = (float)(i * 3);
    ptr memory = take(1024);
    CALL(cuMemcpyHtoD_v2, (ptr, const void *, size_t), memory, rows, sizeof rows);
    flat_array flat = {16, 4, F32, 1};
    SAY("cuTexRefSetAddress2D", CALL(cuTexRefSetAddress2D_v3, (handle, const flat_array *, ptr, size_t), image, &flat, memory, 64));
    SAY("cuTexRefSetAddress2D v2", CALL(cuTexRefSetAddress2D_v2, (handle, const flat_array *, ptr, size_t), image, &flat, memory, 64));
    SAY("cuTexRefSetAddress2D(odd pitch)", CALL(cuTexRefSetAddress2D_v3, (handle, const flat_array *, ptr, size_t), image, &flat, memory, 60));
    SAY("cuTexRefSetAddress2D(narrow pitch)", CALL(cuTexRefSetAddress2D_v3, (handle, const flat_array *, ptr, size_t), image, &flat, memory, 32));
    SAY("cuTexRefSetAddress2D(odd address)", CALL(cuTexRefSetAddress2D_v3, (handle, const flat_array *, ptr, size_t), image, &flat, memory + 32, 64));
    SAY("cuTexRefSetAddress2D(NULL)", CALL(cuTexRefSetAddress2D_v3, (handle, const flat_array *, ptr, size_t), image, NULL, memory, 64));
    flat.height = 400;
    SAY("cuTexRefSetAddress2D(past the end)", CALL(cuTexRefSetAddress2D_v3, (handle, const flat_array *, ptr, size_t), image, &flat, memory, 64));
    flat.height = 4, flat.channels = 3;
    SAY("cuTexRefSetAddress2D(three channels)", CALL(cuTexRefSetAddress2D_v3, (handle, const flat_array *, ptr, size_t), image, &flat, memory, 64));
    SAY("cuTexRefSetAddress2D v1", CALL(cuTexRefSetAddress2D, (handle, const unsigned *, unsigned, unsigned), image, (unsigned[]){16, 4, F32, 1}, 512, 64));
    SAY("cuTexRefGetAddress", CALL(cuTexRefGetAddress_v2, (ptr *, handle), &address, image));
    SAY("  the address", address == memory);
    SAY("cuTexRefGetAddress v1", CALL(cuTexRefGetAddress, (unsigned *, handle), &number, image));
    SAY("cuTexRefGetArray of memory", CALL(cuTexRefGetArray, (handle *, handle), &bound, image));
    look("rows of memory", "named", 4, 16, 0, 1, 1);
    SAY("  as filled", !memcmp(seen, rows, sizeof rows));
    size_t offset = 9;
    SAY("cuTexRefSetFormat", CALL(cuTexRefSetFormat, (handle, unsigned, int), image, F32, 1));
    SAY("cuTexRefSetFormat(three channels)", CALL(cuTexRefSetFormat, (handle, unsigned, int), image, F32, 3));
    SAY("cuTexRefSetFormat(negative)", CALL(cuTexRefSetFormat, (handle, unsigned, int), image, F32, -1));
    SAY("cuTexRefSetFormat(none)", CALL(cuTexRefSetFormat, (handle, unsigned, int), image, 0, 1));
    SAY("cuTexRefSetAddress", CALL(cuTexRefSetAddress_v2, (size_t *, handle, ptr, size_t), NULL, image, memory, 200));
    SAY("cuTexRefSetAddress(within)", CALL(cuTexRefSetAddress_v2, (size_t *, handle, ptr, size_t), &offset, image, memory + 16, 200));
    SAY("  offset", offset);
    SAY("cuTexRefSetAddress(within, nowhere to say it)", CALL(cuTexRefSetAddress_v2, (size_t *, handle, ptr, size_t), NULL, image, memory + 16, 200));
    SAY("cuTexRefSetAddress(past the end)", CALL(cuTexRefSetAddress_v2, (size_t *, handle, ptr, size_t), &offset, image, memory, 1 << 20));
    SAY("cuTexRefSetAddress(overflow)", CALL(cuTexRefSetAddress_v2, (size_t *, handle, ptr, size_t), &offset, image, memory + 16, (size_t)-8));
    SAY("cuTexRefSetAddress(nothing)", CALL(cuTexRefSetAddress_v2, (size_t *, handle, ptr, size_t), &offset, image, memory, 0));
    SAY("cuTexRefSetAddress v1", CALL(cuTexRefSetAddress, (unsigned *, handle, unsigned, unsigned), &number, image, 512, 64));
    look("linear memory", "named", 1, 60, 0, 1, 1);

    solid_array shape = {8, 8, 0, F32, 1, 0};
    handle mipmapped = NULL, own = NULL, canvas = NULL;
    CALL(cuMipmappedArrayCreate, (handle *, const solid_array *, unsigned), &mipmapped, &shape, 2);
    SAY("cuTexRefSetMipmappedArray", CALL(cuTexRefSetMipmappedArray, (handle, handle, unsigned), image, mipmapped, 1));
    SAY("cuTexRefGetMipmappedArray", CALL(cuTexRefGetMipmappedArray, (handle *, handle), &bound, image));
    SAY("  the array", bound == mipmapped);
    SAY("cuTexRefSetMipmappedArray(an array)", CALL(cuTexRefSetMipmappedArray, (handle, handle, unsigned), image, first, 1));
    SAY("cuTexRefCreate", CALL(cuTexRefCreate, (handle *), &own));
    SAY("cuTexRefSetArray of it", CALL(cuTexRefSetArray, (handle, handle, unsigned), own, second, 1));
    SAY("cuTexRefDestroy", CALL(cuTexRefDestroy, (handle), own));
    SAY("cuTexRefDestroy again", CALL(cuTexRefDestroy, (handle), own));
    SAY("cuTexRefDestroy of a module's", CALL(cuTexRefDestroy, (handle), image));

    handle target = made(8, 4, 0, U32, 1, SURFACE);
    SAY("cuModuleGetSurfRef", CALL(cuModuleGetSurfRef, (handle *, handle, const char *), &canvas, module, "canvas"));
    SAY("cuModuleGetSurfRef(a texture)", CALL(cuModuleGetSurfRef, (handle *, handle, const char *), &bound, module, "picture"));
    SAY("cuSurfRefGetArray(unbound)", CALL(cuSurfRefGetArray, (handle *, handle), &bound, canvas));
    SAY("cuSurfRefSetArray(not for surfaces)", CALL(cuSurfRefSetArray, (handle, handle, unsigned), canvas, first, 0));
    SAY("cuSurfRefSetArray(flags)", CALL(cuSurfRefSetArray, (handle, handle, unsigned), canvas, target, 1));
    SAY("cuSurfRefSetArray(nothing)", CALL(cuSurfRefSetArray, (handle, handle, unsigned), canvas, (handle)0x123450, 0));
    SAY("cuSurfRefSetArray", CALL(cuSurfRefSetArray, (handle, handle, unsigned), canvas, target, 0));
    SAY("cuSurfRefGetArray", CALL(cuSurfRefGetArray, (handle *, handle), &bound, canvas));
    SAY("  the array", bound == target);
    unsigned painted[32];
    SAY("painted", run("paint", 4, 8, 0, 0, 5, 0, NULL));
    SAY("  back", move(target, painted, 0, 0, 0, 32, 4, 1, 0, NULL));
    SAY("  words", painted[0] == 5 && painted[31] == 3000 + 7 + 5);
    SAY("cuModuleUnload", CALL(cuModuleUnload, (handle), module));
    SAY("cuTexRefSetFlags afterwards", CALL(cuTexRefSetFlags, (handle, unsigned), image, 0));
    SAY("cuSurfRefGetArray afterwards", CALL(cuSurfRefGetArray, (handle *, handle), &bound, canvas));
    handle all[] = {first, second, target};
    for (int i = 0; i < 3; i++) CALL(cuArrayDestroy, (handle), all[i]);
    CALL(cuMipmappedArrayDestroy, (handle), mipmapped);
    CALL(cuMemFree_v2, (ptr), memory);
}

int main(void) {
    begin();
    for (int i = 0; i < 32; i++) plane[i] = (float)(i / 8 * 10 + i % 8);
    SAY("cuModuleLoadData", CALL(cuModuleLoadData, (handle *, const void *), &module, PTX));
    out = take(4096);
    objects();
    shapes();
    surfaces();
    ends();
    references();
    return 0;
}
