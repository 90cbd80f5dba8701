// develop: what bimg gets wrong or cannot do, on libvips directly. It decodes
// small (shrink-on-load), scales with alpha premultiplied, and does everything
// else (colour, crop, turn, background) on the small image; bimg then encodes
// the uncompressed PNG made here.

#include "develop.h"

#include <string.h>
#include <vips/vips.h>

static gint warnings = 0;

// libvips reports a damaged JPEG that it decoded anyway only by this log line.
static void on_log(const gchar *domain, GLogLevelFlags level, const gchar *message, gpointer data)
{
	(void) domain, (void) level, (void) data;
	if (g_str_has_prefix(message, "read gave "))
		g_atomic_int_inc(&warnings);
}

void prepare_vips(void)
{
	g_log_set_handler("VIPS", G_LOG_LEVEL_WARNING | G_LOG_LEVEL_MESSAGE | G_LOG_LEVEL_INFO | G_LOG_LEVEL_DEBUG, on_log, NULL);
	vips_operation_block_set("VipsForeignLoad", TRUE);
	vips_operation_block_set("VipsForeignLoadJpegBuffer", FALSE);
	vips_operation_block_set("VipsForeignLoadPngBuffer", FALSE);
	vips_operation_block_set("VipsForeignLoadWebpBuffer", FALSE);
	vips_operation_block_set("VipsForeignLoadNsgifBuffer", FALSE);
	vips_operation_block_set("VipsForeignLoadHeifBuffer", FALSE);
}

int decode_warnings(void)
{
	return g_atomic_int_get(&warnings);
}

// Opening reads the header only; pixels come when they are asked for, in rows
// from the top. Anything missing or wrong in them is an error: the default is a
// grey half image. PNG and the others warn about harmless things; JPEG does not.
static int open_image(const void *buffer, size_t size, const DevelopJob *job, VipsImage **image)
{
	void *data = (void *) buffer; // libvips's prototypes predate const
	switch (job->loader) {
	case LOADER_JPEG:
		return vips_jpegload_buffer(data, size, image, "access", VIPS_ACCESS_SEQUENTIAL,
			"fail_on", VIPS_FAIL_ON_WARNING, "shrink", job->jpeg_shrink, NULL);
	case LOADER_PNG:
		return vips_pngload_buffer(data, size, image, "access", VIPS_ACCESS_SEQUENTIAL,
			"fail_on", VIPS_FAIL_ON_ERROR, NULL);
	case LOADER_WEBP:
		return vips_webpload_buffer(data, size, image, "access", VIPS_ACCESS_SEQUENTIAL,
			"fail_on", VIPS_FAIL_ON_ERROR, "scale", job->webp_scale, NULL);
	case LOADER_GIF:
		return vips_gifload_buffer(data, size, image, "access", VIPS_ACCESS_SEQUENTIAL,
			"fail_on", VIPS_FAIL_ON_ERROR, NULL);
	default:
		return vips_heifload_buffer(data, size, image, "access", VIPS_ACCESS_SEQUENTIAL,
			"fail_on", VIPS_FAIL_ON_ERROR, NULL);
	}
}

static int space_of(const VipsImage *image)
{
	switch (image->Type) {
	case VIPS_INTERPRETATION_sRGB:
	case VIPS_INTERPRETATION_RGB:
	case VIPS_INTERPRETATION_RGB16:
		return SPACE_RGB;
	case VIPS_INTERPRETATION_B_W:
	case VIPS_INTERPRETATION_GREY16:
		return SPACE_GREY;
	case VIPS_INTERPRETATION_CMYK:
		return SPACE_CMYK;
	default:
		return SPACE_OTHER;
	}
}

// Ends a call: takes libvips's error text, and what it keeps for this thread.
static int finish(int failed, char **message)
{
	if (failed)
		*message = g_strdup(vips_error_buffer());
	vips_error_clear();
	vips_thread_shutdown();
	return failed ? -1 : 0;
}

int read_header(const void *buffer, size_t size, int loader, ImageHeader *header, char **message)
{
	DevelopJob job = { .loader = loader, .jpeg_shrink = 1, .webp_scale = 1.0 };
	VipsImage *image = NULL;
	if (open_image(buffer, size, &job, &image))
		return finish(1, message);

	const void *profile;
	size_t profile_size;
	header->width = image->Xsize;
	header->height = image->Ysize;
	header->orientation = vips_image_get_orientation(image);
	header->space = space_of(image);
	header->deep = image->BandFmt != VIPS_FORMAT_UCHAR;
	header->alpha = vips_image_hasalpha(image);
	if (vips_image_get_typeof(image, VIPS_META_ICC_NAME) &&
		!vips_image_get_blob(image, VIPS_META_ICC_NAME, &profile, &profile_size)) {
		header->profile = g_memdup2(profile, profile_size);
		header->profile_size = profile_size;
	}
	g_object_unref(image);
	return finish(0, message);
}

// STEP replaces *image by what call makes of it in next, or returns the failure
// and leaves *image to whoever owns it.
#define STEP(call) \
	do { \
		VipsImage *next = NULL; \
		if (call) \
			return -1; \
		g_object_unref(*image); \
		*image = next; \
	} while (0)

// Reads the pixels now, in order, so that later steps may ask for any of them.
static int hold(VipsImage **image)
{
	VipsImage *copy = vips_image_copy_memory(*image);
	if (!copy)
		return -1;
	g_object_unref(*image);
	*image = copy;
	return 0;
}

// Colours of see-through pixels weigh by their alpha while scaling, or they
// would bleed into the edges as a halo.
static int scale(VipsImage **image, int width, int height)
{
	VipsBandFormat format = (*image)->BandFmt;
	int alpha = vips_image_hasalpha(*image);
	if ((*image)->Xsize == width && (*image)->Ysize == height)
		return 0;
	if (alpha)
		STEP(vips_premultiply(*image, &next, NULL));
	STEP(vips_resize(*image, &next, (double) width / (*image)->Xsize,
		"vscale", (double) height / (*image)->Ysize, NULL));
	if (alpha) {
		STEP(vips_unpremultiply(*image, &next, NULL));
		STEP(vips_rint(*image, &next, NULL)); // a cast alone would round 254.99 down
		STEP(vips_cast(*image, &next, format, NULL));
	}
	if ((*image)->Xsize != width || (*image)->Ysize != height)
		STEP(vips_embed(*image, &next, 0, 0, width, height, "extend", VIPS_EXTEND_COPY, NULL));
	return 0;
}

// To 8 bits of sRGB, or of grey. A profile that libvips cannot use, or that does
// not fit the image, counts as none: the pixels are still a picture.
static int convert_colour(VipsImage **image, int use_profile)
{
	if (use_profile) {
		VipsImage *next = NULL;
		if (!vips_icc_transform(*image, &next, "srgb", "embedded", TRUE,
				"black_point_compensation", TRUE, "depth", 8, NULL)) {
			g_object_unref(*image);
			*image = next;
			return 0;
		}
		vips_error_clear();
	}
	VipsInterpretation wanted = space_of(*image) == SPACE_GREY ? VIPS_INTERPRETATION_B_W : VIPS_INTERPRETATION_sRGB;
	if ((*image)->Type != wanted || (*image)->BandFmt != VIPS_FORMAT_UCHAR)
		STEP(vips_colourspace(*image, &next, wanted, NULL));
	return 0;
}

static int crop(VipsImage **image, const DevelopJob *job)
{
	if ((*image)->Xsize == job->crop_width && (*image)->Ysize == job->crop_height)
		return 0;
	if (job->crop_smart)
		STEP(vips_smartcrop(*image, &next, job->crop_width, job->crop_height, NULL));
	else
		STEP(vips_extract_area(*image, &next, job->crop_left, job->crop_top, job->crop_width, job->crop_height, NULL));
	return 0;
}

static int turn(VipsImage **image, const DevelopJob *job)
{
	if (job->mirror)
		STEP(vips_flip(*image, &next, VIPS_DIRECTION_HORIZONTAL, NULL));
	if (job->quarters)
		STEP(vips_rot(*image, &next, (VipsAngle) job->quarters, NULL)); // VIPS_ANGLE_D0, D90, D180, D270
	return 0;
}

static int lay_on_background(VipsImage **image, const DevelopJob *job)
{
	int pad = (*image)->Xsize != job->canvas_width || (*image)->Ysize != job->canvas_height;
	if (!pad && !job->flatten)
		return 0;
	if ((*image)->Bands < 3) // the background may have a colour
		STEP(vips_colourspace(*image, &next, VIPS_INTERPRETATION_sRGB, NULL));
	if (job->flatten) {
		VipsArrayDouble *colour = vips_array_double_new(job->background, 3);
		VipsImage *next = NULL;
		int failed = vips_flatten(*image, &next, "background", colour, NULL);
		vips_area_unref(VIPS_AREA(colour));
		if (failed)
			return -1;
		g_object_unref(*image);
		*image = next;
	}
	if (pad) {
		if (job->pad_clear && !vips_image_hasalpha(*image))
			STEP(vips_addalpha(*image, &next, NULL));
		double ink[4] = { job->background[0], job->background[1], job->background[2], job->pad_clear ? 0 : 255 };
		VipsArrayDouble *colour = vips_array_double_new(ink, (*image)->Bands);
		VipsImage *next = NULL;
		int failed = vips_embed(*image, &next, (job->canvas_width - (*image)->Xsize) / 2,
			(job->canvas_height - (*image)->Ysize) / 2, job->canvas_width, job->canvas_height,
			"extend", VIPS_EXTEND_BACKGROUND, "background", colour, NULL);
		vips_area_unref(VIPS_AREA(colour));
		if (failed)
			return -1;
		g_object_unref(*image);
		*image = next;
	}
	return 0;
}

// The pixels are turned by now: a viewer must not turn them again.
static int forget_orientation(VipsImage **image)
{
	STEP(vips_copy(*image, &next, NULL)); // metadata of a shared image must not be changed
	vips_autorot_remove_angle(*image);
	return 0;
}

static int run(VipsImage **image, const DevelopJob *job)
{
	int cropped = job->crop_width != job->width || job->crop_height != job->height;
	int turned = job->mirror || job->quarters;

	// A crop must not hide that the rest of the file is missing, so all rows are
	// read first: of the source where that is the smaller, else of the scaled image.
	if (cropped && job->crop_enlarged && hold(image))
		return -1;
	if (scale(image, job->width, job->height) || convert_colour(image, job->use_profile))
		return -1;
	if (cropped && !job->crop_enlarged && hold(image))
		return -1;
	if (crop(image, job))
		return -1;
	if (turned && !(cropped && !job->crop_enlarged) && hold(image))
		return -1;
	if (turn(image, job) || lay_on_background(image, job))
		return -1;
	return job->keep_metadata ? forget_orientation(image) : 0;
}

int develop(const void *buffer, size_t size, const DevelopJob *job, Developed *result, char **message)
{
	VipsImage *image = NULL;
	int failed = open_image(buffer, size, job, &image) || run(&image, job);
	if (!failed) {
		result->grey = image->Bands < 3;
		failed = vips_pngsave_buffer(image, &result->data, &result->size, "compression", 0,
			"filter", VIPS_FOREIGN_PNG_FILTER_NONE, "strip", !job->keep_metadata, NULL);
	}
	VIPS_UNREF(image);
	return finish(failed, message);
}
