// The part of libvips that bimg does not reach: see develop.c.
#ifndef LIGHTCONE_DEVELOP_H
#define LIGHTCONE_DEVELOP_H

#include <stddef.h>

// The loaders this function allows; formatLoader in vips.go has the same order.
enum { LOADER_JPEG, LOADER_PNG, LOADER_WEBP, LOADER_GIF, LOADER_HEIF };

// What the colour bands of an image mean, alpha aside.
enum { SPACE_RGB, SPACE_GREY, SPACE_CMYK, SPACE_OTHER };

typedef struct {
	int width, height;   // px, as stored: orientation not applied
	int orientation;     // EXIF, 1 to 8
	int space;           // SPACE_*
	int deep;            // more than 8 bits a band
	int alpha;           // has an alpha band
	void *profile;       // ICC profile, g_malloc'ed, or NULL
	size_t profile_size; // bytes
} ImageHeader;

typedef struct {
	int loader;
	int jpeg_shrink;   // 1, 2, 4 or 8: libjpeg decodes that much smaller
	double webp_scale; // above 0 and at most 1: libwebp decodes that much smaller
	int width, height; // the whole image scaled, px, before the turn

	int crop_left, crop_top, crop_width, crop_height; // of the scaled image, before the turn
	int crop_smart;                                   // choose left and top by attention
	int crop_enlarged;                                // the scaled image may be huge: never hold it whole

	int mirror, quarters; // mirror left-right first, then turn clockwise

	int use_profile;   // convert from the embedded ICC profile to sRGB
	int keep_metadata; // carry EXIF, XMP and ICC over into the intermediate

	int flatten;              // lay the image on background
	double background[3];     // sRGB, 0 to 255
	int canvas_width, canvas_height; // the image is centred on this; equal to its own size for no padding
	int pad_clear;            // the padding is transparent, else background
} DevelopJob;

typedef struct {
	void *data;  // an uncompressed PNG, g_malloc'ed
	size_t size; // bytes
	int grey;    // the PNG has no colour
} Developed;

// Allows only the loaders above, and takes libvips's warnings off stderr.
void prepare_vips(void);

// How many JPEG decodes libvips has finished with a warning, since the start.
int decode_warnings(void);

// Both return 0, or -1 with *message set to a g_malloc'ed text. The buffer is
// not read after they return.
int read_header(const void *buffer, size_t size, int loader, ImageHeader *header, char **message);
int develop(const void *buffer, size_t size, const DevelopJob *job, Developed *result, char **message);

#endif
